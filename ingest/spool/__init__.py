"""The spool: where deliveries wait on disk while Kafka is away."""
