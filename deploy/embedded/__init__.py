"""Kafka and Postgres for this machine alone, with secrets made for it."""
