"""The services as processes: what each is made of, how it starts, reloads and drains."""
