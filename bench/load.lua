-- For wrk: sends the requests of a file, cut by length, one after the other; reports what happened as JSON.
-- The environment names the file, the length of a request, and how many to skip.

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    local size = tonumber(os.getenv("BENCH_REQUEST_BYTES"))
    file = assert(io.open(os.getenv("BENCH_REQUESTS"), "rb"))
    file:setvbuf("full", 1048576)
    skipped = tonumber(os.getenv("BENCH_SKIP")) * size
    file:seek("set", skipped)
    bytes = size
    wraps = 0
end

function request()
    local text = file:read(bytes)
    if text == nil then
        -- Repeats are the caller's to judge: a subject that dedupes must not see any.
        wraps = wraps + 1
        file:seek("set", skipped)
        text = file:read(bytes)
    end
    return text
end

function done(summary, latency, requests)
    local wrapped = 0
    for _, thread in ipairs(threads) do
        wrapped = wrapped + thread:get("wraps")
    end
    local errors = summary.errors
    io.write(string.format(
        'BENCH {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "wraps": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, wrapped,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000
    ))
end
