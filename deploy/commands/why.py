"""`redrive why`: the records that made a row, and the one that won each column."""

from typing import Any, Final

import click

from deploy.connections import connected
from deploy.event_loop import run
from deploy.exit_codes import Failed
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import examples
from deploy.terminal.output import out, print_json, progress, say
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay import audit
from replay.log.reader import LogReader
from replay.prove.why import Explanation, Question, as_document, explain
from schemas.masking import mask_key

ACTION: Final = "why.reveal"


@click.command(
    epilog=examples(
        "redrive why subscriptions stripe sub_1", "redrive why accounts stripe cus_1 --reveal --reason 'ticket 7'"
    )
)
@click.argument("table")
@click.argument("key", nargs=-1, required=True)
@click.option("--source", "sources", multiple=True, help="Read only these sources; repeatable, default every one.")
@click.option("--from", "from_ms", type=TIME, help="Read records that arrived at or after.")
@click.option("--to", "to_ms", type=TIME, help="Read records that arrived before.")
@click.option("--reveal", is_flag=True, help="Show values whole. The audit first notes who, when, what and why.")
@click.option("--reason", help="Why; goes into the audit with --reveal.")
@json_option
@with_runtime
def why(runtime: Runtime, reveal: bool, reason: str | None, as_json: bool, **asked: Any) -> None:
    """Read the log, and list the records that made a row: the values of each, and which one won each column.

    TABLE is a fact table or a read model, KEY its key, part by part: `redrive why subscriptions stripe sub_1`. For a
    read model over several tables, like accounts or credits, the rows beneath are shown. Exit 1 if no record has
    contributed to it.
    """
    if reason is not None and not reveal:
        raise click.UsageError("--reason goes with --reveal")
    question = Question(asked["table"], asked["key"], asked["sources"], asked["from_ms"], asked["to_ms"])
    answer = run(_explain(runtime, question, reason if reveal else None, reveal))
    if not answer.histories:
        raise Failed(f"no record on the log has contributed to {question.name} {' '.join(question.key)}")
    document = {"table": question.name, **as_document(answer, reveal)}
    if as_json:
        print_json(document)
    else:
        _print(document)


async def _explain(runtime: Runtime, question: Question, reason: str | None, is_revealed: bool) -> Explanation:
    async with connected(runtime.settings) as connection:
        async with LogReader(runtime.cluster()) as reader:
            with progress() as bar:
                task = bar.add_task("reading the log", total=None)
                answer = await explain(
                    connection,
                    reader,
                    question,
                    lambda done, of: bar.update(task, completed=done, total=of),
                )
        if is_revealed:
            key = [mask_key(part) for part in question.key]
            await audit.note(connection, runtime.operator, ACTION, reason, table=question.name, key=key)
        return answer


def _print(document: dict[str, Any]) -> None:
    for row in document["rows"]:
        say(f"{row['table']} {' '.join(str(part) for part in row['key'].values())}", style="bold", indent="    ")
        for one in row["records"]:
            say(f" {one['arrived_at']}  {one['type']}", one["location"], "cyan", indent="    ")
            said = ", ".join(f"{name}={value}" for name, value in one["values"].items())
            for name, text in (("event", one["event_id"]), ("says", said), ("stands", ", ".join(one["won"]))):
                say(text, f"  {name:<6} ", "dim", indent=" " * 10)
        out.print()
    if document["more"]:
        say(f"… and {document['more']} rows more beneath it")
    if document["redacted"]:
        say("redacted; --reveal shows the whole, and is written into the audit", style="dim")
