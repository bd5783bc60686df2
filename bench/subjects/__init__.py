"""What redrive is measured against, each a process of its own. Must not be imported by the suites."""
