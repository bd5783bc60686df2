"""The operators' HTTP service. What the routes do is in the modules they call."""
