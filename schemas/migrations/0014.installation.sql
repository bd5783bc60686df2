-- depends: 0013.copied-generations
-- Who this database is to Kafka: the consumer group of its processors is named after it. A restored backup keeps it.
CREATE TABLE IF NOT EXISTS redrive.installation (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    id      uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO redrive.installation DEFAULT VALUES ON CONFLICT DO NOTHING;
