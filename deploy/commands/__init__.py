"""One module per command group of `redrive`."""
