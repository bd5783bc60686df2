-- depends: 0011.settling
-- An event's place in its record, from 1; 0 where the event is the record. A dead letter is an event, and is named by the
-- place of its record and its own place in it. Rows of before stand for a record as a whole.
ALTER TABLE redrive.event_index ADD COLUMN IF NOT EXISTS ordinal integer NOT NULL DEFAULT 0;

-- A record that is read anew replaces its dead letters, whatever they were called.
CREATE INDEX IF NOT EXISTS event_index_dead_records ON redrive.event_index (topic, partition, record_offset)
WHERE status = 'dead';

ALTER TABLE redrive.requeues ADD COLUMN IF NOT EXISTS ordinal integer NOT NULL DEFAULT 0;
ALTER TABLE redrive.requeues DROP CONSTRAINT IF EXISTS requeues_pkey;
ALTER TABLE redrive.requeues ADD PRIMARY KEY (topic, partition, record_offset, ordinal);
