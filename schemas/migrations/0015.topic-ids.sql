-- depends: 0014.installation
-- Of which log an offset speaks: Kafka's id of the topic. A topic that is made anew has the same name and another id.
-- NULL: of before ids were kept, or of a Kafka that gives none.
ALTER TABLE redrive.positions ADD COLUMN IF NOT EXISTS topic_id uuid;

-- As before, and of which log the batch was read: it moves no position of another one. Processes of the version before
-- go on with the function of five arguments until they are stopped.
CREATE OR REPLACE FUNCTION redrive.advance(
    folding integer, of_topic text, of_partition integer, start bigint, finish bigint, of_log uuid)
RETURNS TABLE (live integer, stored bigint, is_other_log boolean, is_advanced boolean) LANGUAGE plpgsql AS $$
DECLARE
    live_now integer;
    stored_now bigint;
    log_now uuid;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.generation'));
    SELECT g.live INTO STRICT live_now FROM redrive.generation AS g;
    INSERT INTO redrive.positions AS p VALUES (folding, of_topic, of_partition, 0, of_log)
    ON CONFLICT (generation, topic, partition) DO UPDATE SET topic_id = coalesce(p.topic_id, EXCLUDED.topic_id)
    RETURNING p.next_offset, p.topic_id INTO stored_now, log_now;
    IF live_now = folding AND stored_now >= start AND (of_log IS NULL OR log_now = of_log) THEN
        UPDATE redrive.positions AS p SET next_offset = greatest(p.next_offset, finish)
        WHERE p.generation = folding AND p.topic = of_topic AND p.partition = of_partition;
        RETURN QUERY SELECT live_now, greatest(stored_now, finish), false, true;
    ELSE
        RETURN QUERY SELECT live_now, stored_now, of_log IS NOT NULL AND log_now <> of_log, false;
    END IF;
END $$;

-- As before, and what was folded from another log than the live workers fold now is begun again, with a lost range.
CREATE OR REPLACE FUNCTION redrive.follow_from(folding integer, topics text[], partitions integer[], log_starts bigint[])
RETURNS TABLE (of_topic text, of_partition integer, next_offset bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    live_now integer;
    one record;
    stored bigint;
    own_log uuid;
    bound bigint;
    live_log uuid;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('redrive.generation'));
    SELECT g.live INTO STRICT live_now FROM redrive.generation AS g;
    IF live_now = folding
       OR NOT EXISTS (SELECT FROM redrive.generations AS g WHERE g.generation = folding AND g.state <> 'dropped') THEN
        RETURN;
    END IF;
    FOR one IN SELECT * FROM unnest(topics, partitions, log_starts) AS u (topic, partition, log_start) ORDER BY 1, 2 LOOP
        SELECT p.next_offset, p.topic_id INTO stored, own_log FROM redrive.positions AS p
        WHERE p.generation = folding AND p.topic = one.topic AND p.partition = one.partition;
        SELECT p.next_offset, p.topic_id INTO bound, live_log FROM redrive.positions AS p
        WHERE p.generation = live_now AND p.topic = one.topic AND p.partition = one.partition;
        stored := coalesce(stored, 0);
        IF own_log <> live_log THEN
            INSERT INTO redrive.lost_ranges AS l (generation, topic, partition, first_offset, end_offset)
            SELECT folding, one.topic, one.partition, 0, stored WHERE stored > 0
            ON CONFLICT (generation, topic, partition, first_offset)
            DO UPDATE SET end_offset = greatest(l.end_offset, EXCLUDED.end_offset);
            stored := 0;
        END IF;
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
        INSERT INTO redrive.positions AS p VALUES (folding, one.topic, one.partition, stored, live_log)
        ON CONFLICT (generation, topic, partition)
        DO UPDATE SET next_offset = EXCLUDED.next_offset, topic_id = EXCLUDED.topic_id;
        of_topic := one.topic;
        of_partition := one.partition;
        next_offset := stored;
        RETURN NEXT;
    END LOOP;
END $$;

-- As before, and never with what was read of another log than the live workers fold.
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
            AND live.next_offset >= finish AND (live.topic_id <> p.topic_id) IS NOT TRUE
      );
    RETURN FOUND;
END $$;
