"""The signature vectors: published ones, and more of the same kinds."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "fixtures" / "vectors"


def load_vectors() -> list[Any]:
    """(provider, vector) as parameters with readable names."""
    return [
        pytest.param(path.stem, vector, id=f"{path.stem}-{vector['name']}")
        for path in sorted(FOLDER.glob("*.json"))
        for vector in json.loads(path.read_text())["vectors"]
    ]


def verdict(vector: dict[str, Any]) -> bool:
    """Ours, where it is stricter than the SDK's."""
    return bool(vector.get("strict_valid", vector["valid"]))
