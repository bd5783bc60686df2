"""One target under atheris: `python -m tests.fuzz.fuzzer TARGET [options of libFuzzer]`."""

import sys
from random import Random

import atheris
import dateparser

with atheris.instrument_imports(
    include=["schemas", "ingest", "processors", "replay", "deploy"], enable_loader_override=False
):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv[1]]
    if not target.is_slow:
        # A guess at a relative time takes milliseconds: what comes of one is `time`'s to find.
        dateparser.parse = lambda *_, **__: None

    def mutated(data: bytes, max_bytes: int, seed: int) -> bytes:
        return target.mutate(data, Random(seed), lambda text: atheris.Mutate(text, max_bytes))[:max_bytes]

    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.check, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
