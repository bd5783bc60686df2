"""Bodies as providers send them, as records of the log."""

import json
from pathlib import Path

from tests.support.records import FakeRecord, record

FIXTURES = Path(__file__).parents[1] / "fixtures"
READABLE = sorted(
    f"{path.parent.name}/{path.name}"
    for path in FIXTURES.glob("*/*")
    if path.is_file() and path.parent.name != "vectors" and path.name != "verify.get.http.json"
)
"""`provider/file` of every delivery; a handshake is none."""


def of_fixture(name: str) -> FakeRecord:
    provider = name.partition("/")[0]
    if name.endswith(".http.json"):
        captured = json.loads((FIXTURES / name).read_text())
        headers = {key.lower(): value for key, value in captured["headers"].items()}
        return record(
            f"webhooks.{provider}", provider, captured["body"].encode(), method=captured["method"], headers=headers
        )
    is_form = name.endswith(".form")
    content_type = "application/x-www-form-urlencoded" if is_form else "application/json"
    signed_id = "msg_1" if provider == "standardwebhooks" else None
    body = (FIXTURES / name).read_bytes().rstrip(b"\n") if is_form else (FIXTURES / name).read_bytes()
    return record(f"webhooks.{provider}", provider, body, content_type=content_type, signed_id=signed_id)
