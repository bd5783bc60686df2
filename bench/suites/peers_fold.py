"""The fold of one keyed table against stream processors in Python, from the same log into the same rows."""

from typing import Final

from bench import peer_programs
from bench.events import KEYS, SMALL_PARTITIONS, fill_topic_with_small_events, keyed_rows
from bench.fold_runs import BYTEWAX, KEYED, KEYED_PIPELINED, KEYED_PLAIN, QUIX, fold, require_keyed_rows, whole_stories
from bench.options import Options
from bench.results import Comparison, Findings, Sample
from bench.stack import Stack, say
from bench.suites.processors import ALONE, DATABASE, SMALL_FACTOR

SUBJECTS: Final = (KEYED, KEYED_PLAIN, KEYED_PIPELINED, BYTEWAX, QUIX)


async def measure(stack: Stack, options: Options) -> Findings:
    peer_programs.require(peer_programs.PYTHON)
    events = whole_stories(options.events) * SMALL_FACTOR
    samples: list[Sample] = []
    try:
        await stack.fresh_topic(partitions=SMALL_PARTITIONS)
        say(f"appending {events:,} small events")
        await fill_topic_with_small_events(stack.servers, events)
        wanted = keyed_rows(events)
        for number in range(1, options.rounds + 1):
            for subject in SUBJECTS:
                found = await fold(stack, subject, DATABASE, events)
                await require_keyed_rows(stack.url(DATABASE), wanted)
                samples.append(Sample(subject, ALONE, number, found.per_second, found.cpu_per_1k))
    finally:
        await stack.drop_database(DATABASE)
        await stack.drop_topic()
    return Findings(
        name="peers-fold",
        title="Fold of one keyed table",
        unit="records",
        samples=tuple(samples),
        comparisons=tuple(Comparison(KEYED, other) for other in SUBJECTS if other != KEYED),
        cpu_thousands=100,
        notes=(
            f"{events:,} small records in {SMALL_PARTITIONS} partitions: a JSON parse and an upsert into {KEYS:,} keys,"
            " the same statement everywhere. One process each. After every run the table is read and compared, row by"
            " row, with what the records come to: all subjects leave the same rows.",
            "The offset that follows is written in the rows' transaction everywhere, and is what is timed: from the"
            " first commit seen to the last. redrive and the loops write it through redrive's guard, which refuses"
            " gaps; Bytewax and Quix Streams only set it, and would resume from their own (Bytewax runs without its"
            " recovery store here; Quix Streams commits to Kafka after the rows): after a crash they write again.",
            "A transaction of redrive holds what was fetched of one partition at once, about 80,000 such records; so"
            " the others may take as many: a `getmany` of the loops, a batch of Bytewax's source, a checkpoint of Quix"
            " Streams. Larger transactions are cheaper, because a key is upserted once in each.",
            "Neither peer has dead letters, an event index, generations or a replay; nor does redrive write those in"
            " this fold, which is only the way from the log to a table.",
            f"The records are the same in every run: no seed. Peers: {peer_programs.python_versions()}.",
        ),
    )
