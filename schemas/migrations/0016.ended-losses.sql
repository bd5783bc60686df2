-- depends: 0015.topic-ids
-- How the loss of a range of the log ended. A row of redrive.lost_ranges says which generation lacks it; whether its events
-- are on the log again, or somebody does without them, is the same for all.
CREATE TABLE IF NOT EXISTS redrive.ended_losses (
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset   bigint NOT NULL,
    ended_as     text NOT NULL CHECK (ended_as IN ('recovered', 'accepted')),
    -- Who accepted it, and why.
    operator     text,
    reason       text,
    ended_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, first_offset, end_offset)
);

-- What the live workers find to be lost is a new loss, even at offsets where another one ended. Whoever writes it down: the
-- owner's rights forget the end.
CREATE OR REPLACE FUNCTION redrive.forget_ends() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM redrive.ended_losses AS e USING redrive.generation AS g
    WHERE g.live = NEW.generation AND e.topic = NEW.topic AND e.partition = NEW.partition
      AND e.first_offset < NEW.end_offset AND e.end_offset > NEW.first_offset;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER forget_ends AFTER INSERT OR UPDATE ON redrive.lost_ranges
    FOR EACH ROW EXECUTE FUNCTION redrive.forget_ends();
