-- depends: 0004.dead-events
-- Why a running replay is slow: it gives way to live traffic. NULL at full pace, and once it has ended.
ALTER TABLE redrive.replays ADD COLUMN IF NOT EXISTS slowed_by text;
