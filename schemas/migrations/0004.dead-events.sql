-- depends: 0003.calls-view
-- Dead events are few among many: without an index of their own, a list of them looks at every event.
CREATE INDEX IF NOT EXISTS event_index_dead ON redrive.event_index (source, event_id) WHERE status = 'dead';
