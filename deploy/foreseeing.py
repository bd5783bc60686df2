"""`replay plan --diff`: the dry run wired to the projections, and printed. Must not write a table that stays."""

import asyncpg

from deploy.diff_output import print_diff
from deploy.folding import SchemaFolding
from deploy.output import out, print_table, progress
from replay.dry_run import DryRun, dry_run
from replay.plan import Plan
from replay.read_models import SESSION
from replay.window import LogReader


async def foresee(reader: LogReader, connection: "asyncpg.Connection[asyncpg.Record]", plan: Plan) -> DryRun:
    with progress() as bar:
        task = bar.add_task("folding it apart", total=plan.offsets)
        folding = SchemaFolding.into(SESSION)
        return await dry_run(reader, connection, plan, folding, lambda offsets: bar.advance(task, offsets))


def print_foreseen(found: DryRun) -> None:
    out.print()
    if found.dead:
        out.print(f"{found.dead} records would be dead letters again")
    if not found.tables:
        out.print("a run would change nothing")
        return
    print_table(
        ("table", "rows added", "rows changed"),
        [(name, change.added, change.changed) for name, change in found.tables.items()],
        "what a run would change",
    )
    out.print()
    print_diff(found.diff)
