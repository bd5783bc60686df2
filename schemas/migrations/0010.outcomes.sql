-- depends: 0005.replay-slowed-by
-- What became of each record that a replay sent to a target; in the transaction of the replay's progress.
CREATE TABLE IF NOT EXISTS redrive.replay_outcomes (
    replay        uuid NOT NULL REFERENCES redrive.replays ON DELETE CASCADE,
    topic         text COLLATE "C" NOT NULL,
    partition     integer NOT NULL,
    record_offset bigint NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('delivered', 'failed')),
    status        integer,
    attempts      integer NOT NULL,
    error         text,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (replay, topic, partition, record_offset)
);
CREATE INDEX IF NOT EXISTS replay_outcomes_failed
    ON redrive.replay_outcomes (replay, topic, partition, record_offset) WHERE outcome = 'failed';
