-- depends: 0002.quarantine
-- The placeholders of the first version's view had another collation than the columns that now take their place, and a
-- view's column can't change it. The view is made anew right after this.
DROP VIEW IF EXISTS public.calls;
