"""The ingress against others that put a body on the log before they answer, under the very same requests."""

from typing import Final

from bench import peer_programs
from bench.load import wrk_version
from bench.options import Options
from bench.results import Comparison, Findings
from bench.server_runs import Server, measure_servers, server_notes
from bench.stack import Stack
from bench.subject import module
from bench.suites import ingest


def granian(name: str, processes: int) -> Server:
    return Server(name, module("bench.peers.granian_ingress", python=peer_programs.PYTHON), processes)


GO: Final = Server("Go net/http + franz-go", [str(peer_programs.INGRESS)])
GRANIAN: Final = granian("granian + aiokafka", 1)
GRANIAN_PAIR: Final = granian("granian + aiokafka, 2 processes", 2)
SERVERS: Final = (*ingest.SERVERS, GRANIAN, GRANIAN_PAIR, GO)


async def measure(stack: Stack, options: Options) -> Findings:
    for program in (peer_programs.PYTHON, peer_programs.INGRESS):
        peer_programs.require(program)
    versions = f"{peer_programs.go_versions()}; {peer_programs.python_versions()}; {wrk_version()}."
    samples = await measure_servers(stack, options, SERVERS)
    return Findings(
        name="peers-ingest",
        title=ingest.TITLE,
        unit="requests",
        samples=tuple(samples),
        comparisons=(
            *ingest.COMPARISONS,
            Comparison(ingest.REDRIVE.name, GRANIAN.name),
            Comparison(ingest.REDRIVE_PAIR.name, GRANIAN_PAIR.name),
            Comparison(ingest.REDRIVE.name, GO.name),
            Comparison(ingest.REDRIVE_PAIR.name, GO.name),
        ),
        notes=(
            *server_notes(samples),
            "Only redrive verifies signatures, names records and dedupes. The peers append the body, without key or"
            " headers: no linger, no compression, an idempotent producer, as redrive's own. Go is one process that uses"
            " all cores: the compiled limit. Where it answers more than were signed, it gets some twice.",
            f"Seed {options.seed}. Peers: {versions}",
        ),
    )
