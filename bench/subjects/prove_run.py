"""`redrive prove`, wired as the command wires it, with a clock. Prints one JSON document."""

import resource
import time

import orjson
import uvloop

from deploy import redriving
from deploy.wiring import load


async def main() -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    made = await redriving.prove(load(), lambda done, of: None)
    found = {
        "verdict": made.verdict,
        "records": made.counts.records,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    uvloop.run(main())
