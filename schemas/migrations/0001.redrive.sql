-- The schema `redrive`: where the fold stands, what operators did, the index of the log.
-- Every statement can be run again: a crash between a migration and the note of it must not need a person.
-- Fact tables are not here: they come from the declarations in schemas/facts.py, one schema per generation.
CREATE SCHEMA IF NOT EXISTS redrive;

CREATE TABLE IF NOT EXISTS redrive.generation (
    is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    live     integer NOT NULL,
    previous integer
);

CREATE TABLE IF NOT EXISTS redrive.positions (
    generation  integer NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (generation, topic, partition)
);

CREATE TABLE IF NOT EXISTS redrive.lost_ranges (
    generation   integer NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset   bigint NOT NULL,
    noticed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, topic, partition, first_offset)
);

-- One row per event and location. The view webhook_events shows an event at its earliest location.
CREATE TABLE IF NOT EXISTS redrive.event_index (
    source        text COLLATE "C" NOT NULL,
    event_id      text COLLATE "C" NOT NULL,
    topic         text COLLATE "C" NOT NULL,
    partition     integer NOT NULL,
    record_offset bigint NOT NULL,
    record_id     text COLLATE "C" NOT NULL,
    fingerprint   bytea NOT NULL,
    provider      text COLLATE "C" NOT NULL,
    type          text COLLATE "C" NOT NULL,
    occurred_at   timestamptz,
    received_at   timestamptz NOT NULL,
    status        text COLLATE "C" NOT NULL CHECK (status IN ('dead', 'ignored', 'applied')),
    error         text,
    PRIMARY KEY (source, event_id, topic, partition, record_offset)
);
CREATE INDEX IF NOT EXISTS event_index_received ON redrive.event_index (received_at DESC);

CREATE TABLE IF NOT EXISTS redrive.price_tiers (
    price_id text COLLATE "C" PRIMARY KEY,
    name     text NOT NULL
);

CREATE TABLE IF NOT EXISTS redrive.replays (
    id           uuid PRIMARY KEY,
    state        text NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    selection    jsonb NOT NULL,
    generation   integer NOT NULL,
    operator     text NOT NULL,
    reason       text NOT NULL,
    records      bigint NOT NULL DEFAULT 0,
    events       bigint NOT NULL DEFAULT 0,
    rows_changed bigint NOT NULL DEFAULT 0,
    dead         bigint NOT NULL DEFAULT 0,
    total        bigint NOT NULL,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);

CREATE TABLE IF NOT EXISTS redrive.replay_progress (
    replay      uuid NOT NULL REFERENCES redrive.replays ON DELETE CASCADE,
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    end_offset  bigint NOT NULL,
    PRIMARY KEY (replay, topic, partition)
);

CREATE TABLE IF NOT EXISTS redrive.audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    operator text NOT NULL,
    action   text NOT NULL,
    reason   text,
    details  jsonb NOT NULL DEFAULT '{}'
);

-- Step 1 of every writer's transaction (invariant 7): take the writers' lock, then read which generation is live; move
-- the position from at or past `start` to `finish`. Two statements, because a snapshot taken before the lock was granted
-- could still show the generation from before a flip. `stored` is NULL where nothing was ever folded.
CREATE OR REPLACE FUNCTION redrive.advance(folding integer, of_topic text, of_partition integer, start bigint, finish bigint)
RETURNS TABLE (live integer, stored bigint, is_advanced boolean) LANGUAGE plpgsql AS $$
DECLARE
    live_now integer;
    stored_now bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.generation'));
    SELECT g.live INTO STRICT live_now FROM redrive.generation AS g;
    INSERT INTO redrive.positions AS p VALUES (folding, of_topic, of_partition, 0)
    ON CONFLICT (generation, topic, partition) DO UPDATE SET next_offset = p.next_offset
    RETURNING p.next_offset INTO stored_now;
    IF live_now = folding AND stored_now >= start THEN
        UPDATE redrive.positions AS p SET next_offset = greatest(p.next_offset, finish)
        WHERE p.generation = folding AND p.topic = of_topic AND p.partition = of_partition;
        RETURN QUERY SELECT live_now, greatest(stored_now, finish), true;
    ELSE
        RETURN QUERY SELECT live_now, stored_now, false;
    END IF;
END $$;

-- What each applied file held, so that an edit of a released migration is noticed.
CREATE TABLE IF NOT EXISTS redrive.migration_checksum (
    migration text PRIMARY KEY,
    sha256    text NOT NULL
);
