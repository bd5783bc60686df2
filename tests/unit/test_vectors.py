"""Invariant 3, verified or not at all: every published signature vector gives its verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.commands.verify import CapturedRequest, _provider_and_secrets, judge

FOLDER = Path(__file__).parents[1] / "fixtures" / "vectors"


def load_vectors() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        for vector in json.loads(path.read_text())["vectors"]:
            found.append(pytest.param(path.stem, vector, id=f"{path.stem}-{vector['name']}"))
    return found


@pytest.mark.parametrize(("provider", "vector"), load_vectors())
def test_every_vector_gives_its_verdict(provider: str, vector: dict[str, Any]) -> None:
    request = CapturedRequest.model_validate(vector)
    verdict = judge(request, *_provider_and_secrets(provider, request))
    assert verdict["verified"] is vector.get("strict_valid", vector["valid"]), vector["why"]
    assert (verdict["code"] is None) is verdict["verified"]
