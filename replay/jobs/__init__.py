"""A replay as a job: its plan, its row in the ledger, its lease, its run, and what a target answered."""
