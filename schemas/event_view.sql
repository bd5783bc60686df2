-- The index of the log, an event a row. It is no read model: it stands outside generations, rebuilds and proofs.
CREATE OR REPLACE VIEW public.webhook_events AS
SELECT first.source, first.event_id, first.provider, first.type, first.occurred_at, first.received_at, first.topic,
       first.partition, first.record_offset, every.status, every.error, every.repeats, every.conflicts
FROM redrive.event_index AS first
CROSS JOIN LATERAL (
    SELECT (array_agg(each.status ORDER BY rank DESC))[1] AS status,
           (array_agg(each.error ORDER BY rank DESC, received_at, topic, partition, record_offset))[1] AS error,
           count(*) - 1 AS repeats,
           count(DISTINCT (record_id, fingerprint)) - count(DISTINCT record_id) AS conflicts
    FROM redrive.event_index AS each,
         LATERAL (SELECT array_position(ARRAY['dead', 'ignored', 'applied'], each.status::text) AS rank) AS ranked
    WHERE each.source = first.source AND each.event_id = first.event_id
) AS every
WHERE NOT EXISTS (
    SELECT FROM redrive.event_index AS earlier
    WHERE earlier.source = first.source AND earlier.event_id = first.event_id
      AND (earlier.received_at, earlier.topic, earlier.partition, earlier.record_offset)
        < (first.received_at, first.topic, first.partition, first.record_offset)
);
