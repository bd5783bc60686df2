"""Invariant 3, verified or not at all: every signature vector gives its verdict through `redrive verify`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.commands.verify import verify_request
from tests.support.vectors import load_vectors, verdict


@pytest.mark.parametrize(("provider", "vector"), load_vectors())
def test_every_vector_gives_its_verdict(provider: str, vector: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(vector))
    result = CliRunner().invoke(verify_request, [provider, "--request", str(file), "--json"])
    found = json.loads(result.output)
    assert found["verified"] is verdict(vector), vector["why"]
    assert (found["code"] is None) is found["verified"]
    assert result.exit_code == (0 if found["verified"] else 1)
