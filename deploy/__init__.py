"""How it runs: settings, wiring, the command line, the embedded stack."""
