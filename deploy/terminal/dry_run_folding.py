"""`replay plan --diff`: the dry run wired to the projections, and printed. Must not write a table that stays."""

import asyncpg

from deploy.terminal.diff_output import print_diff
from deploy.terminal.output import out, print_table, progress, say
from replay.jobs.dry_run import DryRun, dry_run
from replay.jobs.plan import Plan
from replay.log.reader import LogReader


async def foresee(reader: LogReader, connection: "asyncpg.Connection[asyncpg.Record]", plan: Plan) -> DryRun:
    with progress() as bar:
        task = bar.add_task("folding into temporary tables", total=plan.offsets)
        return await dry_run(reader, connection, plan, lambda offsets: bar.advance(task, offsets))


def print_foreseen(found: DryRun) -> None:
    out.print()
    if found.older_code:
        say(
            f"of {', '.join(found.older_code)} folded generation {found.generation}: a replay adds what is missing, and"
            " only `redrive rebuild` repairs what is wrong",
            "older code",
            "yellow",
        )
    if found.dead:
        say(f"{found.dead} events would be dead letters again")
    if not found.tables:
        say("a run would change nothing")
        return
    print_table(
        ("table", "rows added", "rows changed"),
        [(name, change.added, change.changed) for name, change in found.tables.items()],
        "what a run would change",
    )
    out.print()
    print_diff(found.diff)
