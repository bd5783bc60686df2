"""HTTP to log: verify, identify, append, answer. Never touches the database."""
