-- depends: 0005.replay-slowed-by
-- Generations beside the live one: who made each and why, how far it is, and which code folded it. Which one is live
-- stands in redrive.generation alone.
CREATE TABLE IF NOT EXISTS redrive.generations (
    generation  integer PRIMARY KEY,
    state       text NOT NULL CHECK (state IN ('building', 'ready', 'dropped')),
    -- Where only some tables are folded anew: which, and the positions at which the others were copied.
    only_tables text[],
    cut         jsonb NOT NULL DEFAULT '[]',
    operator    text,
    reason      text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ready_at    timestamptz,
    dropped_at  timestamptz
);

-- The least version of each projection that ever folded into a generation.
CREATE TABLE IF NOT EXISTS redrive.generation_versions (
    generation integer NOT NULL,
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    PRIMARY KEY (generation, projection)
);
-- What was folded before versions were counted is version 1.
INSERT INTO redrive.generation_versions
SELECT g.live, p.projection, 1
FROM redrive.generation AS g
CROSS JOIN unnest(ARRAY['stripe', 'whatsapp', 'twilio', 'aircall', 'hubspot', 'retell', 'telnyx', 'standardwebhooks',
                        'sendgrid', 'google_calendar']) AS p (projection)
WHERE EXISTS (SELECT FROM redrive.positions AS folded WHERE folded.generation = g.live)
ON CONFLICT DO NOTHING;

-- States of the past, each in schemas of its own.
CREATE TABLE IF NOT EXISTS redrive.scratches (
    name       text COLLATE "C" PRIMARY KEY,
    state      text NOT NULL CHECK (state IN ('building', 'ready')),
    as_of      timestamptz NOT NULL,
    operator   text NOT NULL,
    reason     text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE FUNCTION redrive.note_versions(folding integer, projections text[], versions integer[])
RETURNS void LANGUAGE sql AS $$
    INSERT INTO redrive.generation_versions AS v
    SELECT folding, said.projection, said.version
    FROM unnest(projections, versions) AS said (projection, version) ORDER BY 2
    ON CONFLICT (generation, projection) DO UPDATE SET version = least(v.version, EXCLUDED.version)
    WHERE EXCLUDED.version < v.version;
$$;

-- Whoever folds a generation that is not live moves its positions with these two alone. They belong to the owner, so that
-- the console, which must not move the live positions, can follow all the same.

-- Where to go on in each partition; `log_starts` is the first offset that the log holds. What it no longer holds is
-- written down as lost; where the live workers lost something since, the partition is folded again from its start, since
-- it may be another log by now: merges make that harmless.
CREATE OR REPLACE FUNCTION redrive.follow_from(folding integer, topics text[], partitions integer[], log_starts bigint[])
RETURNS TABLE (of_topic text, of_partition integer, next_offset bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    live_now integer;
    one record;
    stored bigint;
    bound bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.generation'));
    SELECT g.live INTO STRICT live_now FROM redrive.generation AS g;
    IF live_now = folding
       OR NOT EXISTS (SELECT FROM redrive.generations AS g WHERE g.generation = folding AND g.state <> 'dropped') THEN
        RETURN;
    END IF;
    FOR one IN SELECT * FROM unnest(topics, partitions, log_starts) AS u (topic, partition, log_start) ORDER BY 1, 2 LOOP
        SELECT p.next_offset INTO stored FROM redrive.positions AS p
        WHERE p.generation = folding AND p.topic = one.topic AND p.partition = one.partition;
        SELECT p.next_offset INTO bound FROM redrive.positions AS p
        WHERE p.generation = live_now AND p.topic = one.topic AND p.partition = one.partition;
        stored := coalesce(stored, 0);
        IF stored < one.log_start THEN
            INSERT INTO redrive.lost_ranges AS l (generation, topic, partition, first_offset, end_offset)
            VALUES (folding, one.topic, one.partition, stored, one.log_start)
            ON CONFLICT (generation, topic, partition, first_offset)
            DO UPDATE SET end_offset = greatest(l.end_offset, EXCLUDED.end_offset);
            stored := one.log_start;
        END IF;
        INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset)
        SELECT folding, l.topic, l.partition, l.first_offset, l.end_offset FROM redrive.lost_ranges AS l
        WHERE l.generation = live_now AND l.topic = one.topic AND l.partition = one.partition
          AND l.first_offset >= one.log_start
        ON CONFLICT DO NOTHING;
        IF FOUND OR stored > coalesce(bound, 0) THEN
            stored := one.log_start;
        END IF;
        INSERT INTO redrive.positions AS p VALUES (folding, one.topic, one.partition, stored)
        ON CONFLICT (generation, topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset;
        of_topic := one.topic;
        of_partition := one.partition;
        next_offset := stored;
        RETURN NEXT;
    END LOOP;
END $$;

-- In the transaction of a batch: take the writers' lock, and move the position from at or past `start` to `finish`, never
-- beyond the live one. False: the generation went live or was dropped, or somebody else set the position back.
CREATE OR REPLACE FUNCTION redrive.follow(folding integer, of_topic text, of_partition integer, start bigint, finish bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    live_now integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.generation'));
    SELECT g.live INTO STRICT live_now FROM redrive.generation AS g;
    IF live_now = folding
       OR NOT EXISTS (SELECT FROM redrive.generations AS g WHERE g.generation = folding AND g.state <> 'dropped') THEN
        RETURN false;
    END IF;
    UPDATE redrive.positions AS p SET next_offset = greatest(p.next_offset, finish)
    WHERE p.generation = folding AND p.topic = of_topic AND p.partition = of_partition AND p.next_offset >= start
      AND EXISTS (
          SELECT FROM redrive.positions AS live
          WHERE live.generation = live_now AND live.topic = of_topic AND live.partition = of_partition
            AND live.next_offset >= finish
      );
    RETURN FOUND;
END $$;
