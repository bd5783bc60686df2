"""`docs/how-to/prove-it-to-an-auditor.md`, as the page has it, by the real processes: proved, checked, tampered with,
named, and told by the log. Before that, what operators correct as their page says: a proof finds it in order.
"""

import json
import re
import shlex
from pathlib import Path

import asyncpg

from tests.acceptance.corrections_page import correct_as_the_page_says, deliver
from tests.support.processes import Installation
from tests.support.records import payment

PAGE = (Path(__file__).parents[2] / "docs/how-to/prove-it-to-an-auditor.md").read_text()
PROVE, CHECK, NAME, WHY = (shlex.split(line) for line in re.findall(r"^\$ redrive (.+)$", PAGE, re.MULTILINE))
(TAMPER,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(NAMED,) = (json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


async def test_the_pages_for_auditors_and_for_corrections_do_what_they_say(installation: Installation) -> None:
    await correct_as_the_page_says(installation)
    await deliver(installation, payment("audit"))
    await installation.redrive("send", "whatsapp", "--wait")
    await installation.redrive("send", "stripe", "--wait")

    _, out = await installation.redrive(*PROVE)
    assert json.loads(out)["verdict"] == "equal"
    certificate = json.loads((installation.folder / "certificate.json").read_text())
    assert certificate["verdict"] == "equal"
    assert certificate["counts"]["records"] > 2

    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        assert await connection.execute(TAMPER) == "UPDATE 1"
    finally:
        await connection.close()
    _, out = await installation.redrive(*CHECK)
    assert json.loads(out)["verdict"] == "equal"
    _, out = await installation.redrive(*NAME, expect=1)
    found = json.loads(out)
    assert (found["verdict"], found["differences"]) == ("different", [NAMED])
    _, out = await installation.redrive(*PROVE[:1], expect=1)
    assert json.loads(out)["differences"] == [NAMED], "a pipe gets what --json prints"

    _, out = await installation.redrive(*WHY)
    assert "evt_audit" in out
    (row,) = (await installation.redrive_json(*WHY))["rows"]
    assert row["columns"]["status"]["value"] == "succeeded"
    assert row["records"][0]["location"] == row["columns"]["status"]["record"]

    path = installation.folder / "certificate.json"
    path.write_text(path.read_text().replace(certificate["tables"]["payments"]["root"], "0" * 64))
    _, out = await installation.redrive(*CHECK, expect=1)
    assert json.loads(out)["verdict"] == "different"
    path.write_text("{}")
    await installation.redrive(*CHECK, expect=2)
    await installation.redrive("why", "payments", "stripe", "pi_nobody", expect=1)
    await installation.redrive("why", "nothing", "stripe", expect=2)
    shown = await installation.redrive_json(*WHY, "--reveal", "--reason", "the audit")
    assert shown["redacted"] is False
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        (noted,) = await connection.fetch("SELECT reason, details FROM redrive.audit WHERE action = 'why.reveal'")
    finally:
        await connection.close()
    assert noted["reason"] == "the audit"
    assert json.loads(noted["details"]) == {"table": "payments", "key": ["stripe", "pi_audit"]}
