"""What we say: contracts only. Pure: no sockets, no clock, no environment."""
