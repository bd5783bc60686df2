-- depends: 0016.ended-losses
-- Of a range that the log lost: up to where it had been folded. What was never folded is in no index, and events of a topic
-- that was created again at the same offsets say nothing of it. NULL: not known, in rows of before.
ALTER TABLE redrive.lost_ranges ADD COLUMN IF NOT EXISTS folded_to bigint;
