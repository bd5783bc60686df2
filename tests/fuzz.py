"""Long fuzzing of every verify, parse, identify and fold: `make fuzz`. Nothing may raise outside the error taxonomy.

`FUZZ_EXAMPLES` is the number of examples for each target; a failing one is printed and kept by Hypothesis.
"""

import os

from tests.property.test_hostile_input import TARGETS


def main() -> None:
    examples = int(os.environ.get("FUZZ_EXAMPLES", "200000"))
    for name, target in TARGETS.items():
        print(f"{name}: {examples} examples …", flush=True)
        target(examples)()
    print(f"{len(TARGETS)} targets, {len(TARGETS) * examples} examples: nothing outside the taxonomy")


if __name__ == "__main__":
    main()
