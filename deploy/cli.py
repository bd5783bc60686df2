"""The command line: `redrive`. See `deploy.exit_codes` for what it exits with."""

import logging
import sys
from typing import Final

import click

from deploy.exit_codes import exit_codes
from deploy.terminal.group import LazyCommands, Unloaded, examples
from schemas.errors import RedriveError

_COMMANDS: Final = {
    "audit": Unloaded("audit", "audit", "The audit: operators' changes, and the data that they revealed."),
    "check": Unloaded(
        "check",
        "check",
        "Check settings, database, views, topics, spool, clocks, how far the fold is, and recent events; exit 78 for"
        " what cannot work.",
    ),
    "console": Unloaded("services", "console", "Serve operators: health, metrics, and what the tables hold."),
    "correct": Unloaded(
        "correct",
        "correct",
        "Correct a balance, a frozen account or a subscription: never by UPDATE, always by an event of the log.",
    ),
    "dead-letters": Unloaded("dead_letters", "dead_letters", "Events that no projection could apply."),
    "events": Unloaded("events", "events", "Look events up in the index of the log."),
    "ingest": Unloaded("services", "ingest", "Take webhooks in: HTTP to log."),
    "migrate": Unloaded("check", "migrate", "Bring the database to this version's schema: plan, or --apply."),
    "processors": Unloaded("services", "processors", "Fold the log into Postgres."),
    "prove": Unloaded(
        "prove",
        "prove",
        "Fold the whole log again, and compare it with the live tables, row by row, and the views; changes neither.",
    ),
    "quarantine": Unloaded(
        "quarantine",
        "quarantine",
        "Deliveries that did not verify: after a wrong secret or a wrong clock is set right, none of them is lost.",
    ),
    "rebuild": Unloaded(
        "rebuild",
        "rebuild",
        "Fold the whole log into a new generation, and show what differs from the live one; --apply makes it live.",
    ),
    "replay": Unloaded(
        "replay",
        "replay",
        "Re-drive a selection of the log: it adds missing rows, and changes nothing that was right.",
    ),
    "send": Unloaded("send", "send", "Send signed samples to SOURCE."),
    "sources": Unloaded("sources", "sources", "The configured sources, and whether they are paused or disabled."),
    "topics": Unloaded(
        "topics",
        "topics",
        "Show the topics; --apply creates those that are missing, and widens those of older versions.",
    ),
    "up": Unloaded("up", "up", "Start Kafka, Postgres and all services here; Ctrl-C stops them and keeps the data."),
    "verify": Unloaded(
        "verify",
        "verify_request",
        "Verify a captured request to SOURCE; exit 0 when it verifies, 1 when it doesn't.",
    ),
    "why": Unloaded(
        "why",
        "why",
        "Read the log, and list the records that made a row: the values of each, and which one won each column.",
    ),
}


@click.group(
    cls=LazyCommands,
    unloaded=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples(
        "redrive up",
        "redrive send stripe --wait",
        "redrive events list --from '1h ago'",
        "redrive replay plan --source stripe --from '2h ago' --to '1h ago'",
        "redrive prove",
    ),
)
@click.version_option(package_name="redrive")
def redrive() -> None:
    """Every webhook on the log before it is answered; any window of it re-driven safely.

    `redrive up` starts everything on this machine. Settings come from flags, the environment, .env, and redrive.toml.
    """


def main() -> None:
    """Run what the arguments say."""
    # The client reports every try to connect; a command says it once, and what to do.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with exit_codes(_report):
        try:
            redrive.main(standalone_mode=False)
        except click.exceptions.Abort:
            sys.exit(130)
        except click.ClickException as error:
            if not _print_json("usage", error.format_message()):
                error.show()
            sys.exit(error.exit_code)


def _report(error: RedriveError) -> None:
    if not _print_json(error.code, str(error)):
        from deploy.terminal.output import warn

        warn(str(error), "redrive:", "bold red")


def _print_json(code: str, message: str) -> bool:
    """Print the error as a document; False where the arguments ask for none."""
    if "--json" not in sys.argv:
        return False
    from deploy.terminal.output import print_json

    print_json({"error": code, "message": message})
    return True
