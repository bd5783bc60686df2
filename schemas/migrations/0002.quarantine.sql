-- depends: 0001.redrive
-- Which records of the quarantine have been released, so that a second release appends nothing twice. `location` is
-- where on the log; NULL for a further copy of a delivery that was released already.
CREATE TABLE IF NOT EXISTS redrive.releases (
    partition     integer NOT NULL,
    record_offset bigint NOT NULL,
    source        text COLLATE "C" NOT NULL,
    record_id     text COLLATE "C" NOT NULL,
    fingerprint   bytea NOT NULL,
    location      text,
    released_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, record_offset)
);
CREATE INDEX IF NOT EXISTS releases_content ON redrive.releases (source, record_id, fingerprint);
