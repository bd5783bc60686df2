-- depends: 0012.dead-letters-of-single-events
-- Where only some tables are folded anew: the generation whose other tables were copied. NULL: unknown, or none.
ALTER TABLE redrive.generations ADD COLUMN IF NOT EXISTS copied_from integer;
