"""The contracts between the services. Pure: no sockets, no clock, no environment."""
