"""The dedupe window: which deliveries the log has, shared by the processes of a host."""
