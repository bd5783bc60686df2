"""`python -m deploy`: the command line, for children that must run under this very interpreter."""

from deploy.cli import main

main()
