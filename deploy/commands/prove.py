"""`redrive prove`: the live tables against the log, and a certificate of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from deploy import redriving
from deploy.event_loop import run
from deploy.exit_codes import EXIT_FAILED, Reported
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import examples
from deploy.terminal.output import out, print_fields, print_json, print_table, progress, say, text_of
from deploy.wiring import Runtime
from replay.audit import Author
from replay.ports import Advance
from replay.prove.certificate import Certificate, read_certificate
from replay.prove.recheck import Recheck
from schemas.errors import Misconfigured

_COLOURS: Final = {"equal": "green", "different": "red", "incomplete": "yellow"}


@click.command(epilog=examples("redrive prove --out certificate.json", "redrive prove --check certificate.json"))
@click.option(
    "--out", "to", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the certificate here."
)
@click.option(
    "--check",
    "certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify a certificate against the log, up to its positions.",
)
@click.option("--accept-loss", is_flag=True, help="Accept the records that the log lost; needs --reason.")
@click.option("--reason", help="Why the loss is accepted; goes into the audit and the certificate.")
@json_option
@with_runtime
def prove(
    runtime: Runtime, to: Path | None, certificate: Path | None, accept_loss: bool, reason: str | None, as_json: bool
) -> None:
    """Fold the whole log again, and compare it with the live tables, row by row, and the views; changes neither.

    Exit 0: equal. 1: different, with the rows that differ; or incomplete, with the reason.
    Records on the log that are not folded yet are counted.
    """
    accepting = _accepting(runtime, accept_loss, reason)
    if certificate is not None:
        if to is not None or accept_loss:
            raise click.UsageError("--check excludes --out and --accept-loss")
        with _advancing() as advance:
            _report(run(redriving.check(runtime, read_certificate(certificate), advance)), as_json)
    if to is not None and not to.absolute().parent.is_dir():
        # Before it takes long.
        raise click.UsageError(f"there is no folder {to.parent}")
    with _advancing() as advance:
        made = run(redriving.prove(runtime, advance, accepting))
    if to is not None:
        _write(made, to)
    _report(made, as_json)


def _accepting(runtime: Runtime, accept_loss: bool, reason: str | None) -> Author | None:
    """The author and reason of an acceptance of the loss."""
    given = (reason or "").strip()
    if accept_loss and not given:
        raise click.UsageError("--accept-loss needs --reason: what was lost, and why you do without it")
    if reason is not None and not accept_loss:
        raise click.UsageError("--reason goes with --accept-loss")
    return Author(runtime.operator, given) if accept_loss else None


@contextmanager
def _advancing() -> Iterator[Advance]:
    with progress() as bar:
        task = bar.add_task("folding the log", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _write(made: Certificate, to: Path) -> None:
    try:
        to.write_text(made.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise Misconfigured(f"{to} can't be written: {error.strerror}") from error


def _report(found: Certificate | Recheck, as_json: bool) -> None:
    """Ends the command with its exit code."""
    if as_json or not sys.stdout.isatty():
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)
    raise Reported(0 if found.verdict == "equal" else EXIT_FAILED)


def _print(found: Certificate | Recheck) -> None:
    print_table(
        ("table", "rows", "root", "rows of the log", "root of the log"),
        [
            (name, one.rows, one.root[:16], one.log_rows, "the same" if one.log_root == one.root else one.log_root[:16])
            for name, one in found.tables.items()
        ],
    )
    out.print()
    if isinstance(found, Certificate):
        _print_differences(found)
        print_fields(_fields(found))
    else:
        for text in found.findings:
            say(text, "not so:", "red")
    for text in found.reasons:
        say(text, "not known:", "yellow")
    out.print()
    said = found.conclusion if isinstance(found, Certificate) else found.verdict
    say(said, style=f"bold {_COLOURS[found.verdict]}")


def _fields(made: Certificate) -> dict[str, object]:
    fields: dict[str, object] = made.counts.model_dump()
    if made.behind is not None:
        waiting = [f"{topic} {records:,}" for topic, records in made.behind.topics.items()]
        fields["not folded"] = f"{', '.join(waiting) or 0}, as of {text_of(made.behind.as_of)}"
    for loss in made.losses or ():
        if loss.state != "open":
            why = f", {loss.operator}: {loss.reason}" if loss.state == "accepted" else ""
            place = f"{loss.topic}:{loss.partition}:{loss.first_offset}-{loss.end_offset - 1}"
            fields[f"lost {place}"] = f"{loss.state}{why}"
    return {**fields, "generation": made.generation, "digest": made.digest}


def _print_differences(made: Certificate) -> None:
    if not made.differences:
        return
    # Line by line: a key may be as long as a whole row of a table.
    say("in the live tables", style="bold")
    for one in made.differences:
        columns = f": {', '.join(one.columns)}" if one.columns else ""
        say(f"{one.table} {' '.join(one.key.values())}{columns}", one.kind, "red", indent="    ")
    if made.differences_total > len(made.differences):
        say(f"… {made.differences_total} in all")
    out.print()
