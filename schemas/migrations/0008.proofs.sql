-- depends: 0005.replay-slowed-by
-- Proofs that were asked for over HTTP: who, why, how far, what came of it.
CREATE TABLE IF NOT EXISTS redrive.proofs (
    id          uuid PRIMARY KEY,
    state       text NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    operator    text NOT NULL,
    reason      text,
    progress    double precision NOT NULL DEFAULT 0,
    -- NULL until it is done.
    certificate json,
    error       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
