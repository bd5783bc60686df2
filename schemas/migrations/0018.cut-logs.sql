-- depends: 0017.folded-to
-- Of which logs the offsets of a replay, and those at which tables were copied, are: Kafka's ids of the topics, as in
-- redrive.positions. A topic that was deleted and created again gives these offsets to other records.
-- NULL, or not there: not known, as in rows of before.
ALTER TABLE redrive.replay_progress ADD COLUMN IF NOT EXISTS topic_id uuid;
ALTER TABLE redrive.generations ADD COLUMN IF NOT EXISTS cut_logs jsonb NOT NULL DEFAULT '[]';
