-- depends: 0005.replay-slowed-by
-- The history of dead letters that were folded again. The first death stands in the event index until the record can be
-- applied, and is kept here from the first try on. An error begins with its reason, as in the index.
CREATE TABLE IF NOT EXISTS redrive.requeues (
    topic         text COLLATE "C" NOT NULL,
    partition     integer NOT NULL,
    record_offset bigint NOT NULL,
    source        text COLLATE "C" NOT NULL,
    event_id      text COLLATE "C" NOT NULL,
    provider      text COLLATE "C" NOT NULL,
    type          text COLLATE "C" NOT NULL,
    received_at   timestamptz NOT NULL,
    first_error   text NOT NULL,
    first_at      timestamptz NOT NULL DEFAULT now(),
    attempts      integer NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('revived', 'dead', 'gone')),
    last_error    text,
    last_at       timestamptz NOT NULL DEFAULT now(),
    operator      text NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
);
