-- depends: 0018.cut-logs
-- When the process that runs a replay was last heard of: a frozen one keeps its session, and the lock with it.
-- NULL: never, as in rows of before.
ALTER TABLE redrive.replays ADD COLUMN IF NOT EXISTS seen_at timestamptz;
