"""The operators' HTTP service. The modules that the routes call do the work."""
