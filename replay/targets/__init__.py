"""Where a replay sends records other than to the projections: a topic, or an endpoint. Must not write to Postgres."""
