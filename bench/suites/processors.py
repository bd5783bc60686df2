"""The fold of redrive's Faust workers against a loop without a framework, and against Faust as it is usually used."""

from bench.events import fill_topic
from bench.fold_runs import PLAIN, REDRIVE, STOCK, fold, require_rows, whole_stories
from bench.options import Options
from bench.results import Comparison, Findings, Sample
from bench.stack import Stack, say

DATABASE = "bench_fold"


async def measure(stack: Stack, options: Options) -> Findings:
    events = whole_stories(options.events)
    say(f"appending {events:,} events")
    await stack.fresh_topic()
    await fill_topic(stack.servers, events)
    targets = {PLAIN: events, REDRIVE: events, STOCK: min(options.stock_events, events)}
    samples = []
    try:
        for number in range(1, options.rounds + 1):
            for subject, target in targets.items():
                found = await fold(stack, subject, DATABASE, target)
                if target == events:
                    await require_rows(stack.url(DATABASE), events)
                samples.append(Sample(subject, "Stripe mix", number, found.per_second, found.cpu_per_1k))
    finally:
        await stack.drop_database(DATABASE)
        await stack.drop_topic()
    return Findings(
        name="processors",
        title="Fold: the log into Postgres, with event index and positions",
        unit="records",
        samples=tuple(samples),
        comparisons=(Comparison(REDRIVE, PLAIN), Comparison(REDRIVE, STOCK)),
        notes=(
            f"{events:,} signed Stripe events of 1 KB (subscriptions, invoices, payments) in 12 partitions, read from"
            f" the start into a fresh database each time; Faust's `take` only until {targets[STOCK]:,} are folded.",
            "All three call the same projections, joins and upserts, and write event index and positions in the rows'"
            " transaction. The loop writes one transaction per `getmany` of up to 5,000 records over all partitions,"
            " redrive one per fetched batch of one partition.",
            "Timed by the committed positions, from the first commit seen to the last: start-up doesn't count.",
        ),
    )
