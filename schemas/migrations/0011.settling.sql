-- depends: 0007.generations
-- What a flip leaves to do, and which way it went: a process that is killed after it must not be all that knew.

-- Which events are re-driven while a generation is live: those that are `dead` in the index, after each flip to it, and
-- `all` that the index does not call applied, after the first flip to one that was rebuilt. NULL: nothing is left.
ALTER TABLE redrive.generations ADD COLUMN IF NOT EXISTS to_redrive text CHECK (to_redrive IN ('dead', 'all'));

-- Whether the last flip was a rollback. One that is asked for again is then done already.
ALTER TABLE redrive.generation ADD COLUMN IF NOT EXISTS is_rolled_back boolean NOT NULL DEFAULT false;
