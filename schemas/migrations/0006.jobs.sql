-- depends: 0005.replay-slowed-by
-- A replay as a job: a row that any process can take over, at the position of each partition.
ALTER TABLE redrive.replays
    -- What it reads, pinned when it was planned. NULL in the rows of versions that could not go on with a replay.
    ADD COLUMN IF NOT EXISTS plan jsonb,
    -- NULL: the projections.
    ADD COLUMN IF NOT EXISTS target jsonb,
    ADD COLUMN IF NOT EXISTS rate double precision,
    -- What the selection means and the log does not hold.
    ADD COLUMN IF NOT EXISTS gone jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN IF NOT EXISTS records_gone bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS left_to_live bigint NOT NULL DEFAULT 0,
    -- The process that has it, or had it last.
    ADD COLUMN IF NOT EXISTS runner text,
    ADD COLUMN IF NOT EXISTS started_at timestamptz;

ALTER TABLE redrive.replays DROP CONSTRAINT IF EXISTS replays_state_check;
ALTER TABLE redrive.replays ADD CONSTRAINT replays_state_check
    CHECK (state IN ('planned', 'running', 'paused', 'done', 'cancelled', 'failed'));

UPDATE redrive.replays
SET state = 'failed', slowed_by = NULL, finished_at = now(),
    error = 'interrupted: its process was killed; run it again, which changes nothing that was done'
WHERE state = 'running' AND plan IS NULL;

CREATE INDEX IF NOT EXISTS replays_open ON redrive.replays (created_at) WHERE state IN ('planned', 'running', 'paused');

-- Counts stand with the partition's position, so that batches of several partitions write no row in common. Those in
-- redrive.replays are of earlier versions.
ALTER TABLE redrive.replay_progress
    ADD COLUMN IF NOT EXISTS offsets bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS done bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS records bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS events bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS rows_changed bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS dead bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS failed bigint NOT NULL DEFAULT 0;

-- Step 1 of every transaction of a replay: the writers' lock, then the replay's own, which a pause or a cancel takes
-- exclusively: once that has answered, no batch commits. Statements of their own, because a snapshot taken before a lock
-- was granted could still show what was so before.
CREATE OR REPLACE FUNCTION redrive.join_replay(replay uuid)
RETURNS TABLE (live integer, state text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.generation'));
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.replay.step'), hashtext(replay::text));
    RETURN QUERY SELECT g.live, r.state FROM redrive.generation AS g, redrive.replays AS r WHERE r.id = replay;
END $$;
