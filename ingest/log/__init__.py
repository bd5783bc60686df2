"""Appending to Kafka."""
