"""The fold of redrive's Faust workers against a loop without a framework, and against Faust as it is usually used."""

from bench.events import SMALL_PARTITIONS, fill_topic, fill_topic_with_small_events
from bench.fold_runs import (
    KEYED,
    KEYED_STOCK,
    PIPELINED,
    PLAIN,
    REDRIVE,
    STOCK,
    fold,
    require_rows,
    whole_stories,
)
from bench.options import Options
from bench.results import Comparison, Findings, Sample
from bench.stack import Stack, say

DATABASE = "bench_fold"
SMALL_FACTOR = 10
"""So many more small events than large ones: else a few fetches hold them all, and their reading is not in the time."""

WHOLE, ALONE = "Stripe mix, whole fold", "one keyed table"
CASES = {PLAIN: WHOLE, PIPELINED: WHOLE, REDRIVE: WHOLE, STOCK: WHOLE, KEYED: ALONE, KEYED_STOCK: ALONE}


async def measure(stack: Stack, options: Options) -> Findings:
    events = whole_stories(options.events)
    few = min(options.stock_events, events)
    samples: list[Sample] = []
    try:
        await stack.fresh_topic()
        say(f"appending {events:,} events")
        await fill_topic(stack.servers, events)
        samples += await _rounds(stack, options.rounds, {PLAIN: events, PIPELINED: events, REDRIVE: events, STOCK: few})
        await stack.fresh_topic(partitions=SMALL_PARTITIONS)
        small = events * SMALL_FACTOR
        say(f"appending {small:,} small events")
        await fill_topic_with_small_events(stack.servers, small)
        samples += await _rounds(stack, options.rounds, {KEYED: small, KEYED_STOCK: few})
    finally:
        await stack.drop_database(DATABASE)
        await stack.drop_topic()
    return Findings(
        name="processors",
        title="Fold: the log into Postgres, with event index and positions",
        unit="records",
        samples=tuple(samples),
        comparisons=(
            Comparison(REDRIVE, PLAIN),
            Comparison(REDRIVE, PIPELINED),
            Comparison(REDRIVE, STOCK),
            Comparison(KEYED, KEYED_STOCK),
        ),
        cpu_thousands=100,
        notes=(
            f"{events:,} signed Stripe events of 1 KB (subscriptions, invoices, payments) in 12 partitions, read from"
            f" the start into a fresh database each time; Faust's `take` only until {few:,} are folded.",
            "All call the same projections, joins and upserts of all tables, and write event index and positions in the"
            " rows' transaction. The loops write one transaction per `getmany` of up to 5,000 records over all"
            " partitions, redrive one per fetched batch of one partition. The second loop has its next `getmany` under"
            " way while a transaction runs.",
            f"The keyed table: ten times as many small records, {SMALL_PARTITIONS} partitions, a JSON parse and an"
            " upsert into 4,096 keys. Its ratio is that of the two ways through Faust. With"
            " redrive's whole fold (six fact tables, event index) the fold itself is most of the time on every side, so"
            " that the ways differ less.",
            "Timed by the committed positions, from the first commit seen to the last: start-up doesn't count.",
        ),
    )


async def _rounds(stack: Stack, rounds: int, targets: dict[str, int]) -> list[Sample]:
    samples = []
    for number in range(1, rounds + 1):
        for subject, target in targets.items():
            found = await fold(stack, subject, DATABASE, target)
            if subject in (PLAIN, PIPELINED, REDRIVE):
                await require_rows(stack.url(DATABASE), target)
            samples.append(Sample(subject, CASES[subject], number, found.per_second, found.cpu_per_1k))
    return samples
