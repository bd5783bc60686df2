"""Log to rows: decode, project, join, upsert, acknowledge."""
