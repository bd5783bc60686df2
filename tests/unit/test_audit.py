"""An audit that could not be made does not pass for one that found nothing."""

from typing import Any

import pytest

from tests import audit


def package(name: str, *vulnerabilities: tuple[str, str | None]) -> dict[str, Any]:
    found = [
        {"id": one, "aliases": [f"CVE-{one}"], "fix_versions": [fix] if fix else []} for one, fix in vulnerabilities
    ]
    return {"name": name, "version": "1.0", "vulns": found}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": "Dependency not found on PyPI and could not be audited"}


def verdict(*packages: dict[str, Any], ignored: dict[str, str] | None = None) -> int:
    return audit.report(audit.judge({"dependencies": list(packages)}, ignored or {}))


def test_what_is_vulnerable_fails_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(package("fine"), package("bad", ("GHSA-1", "1.1"), ("GHSA-2", None))) == 1
    out = capsys.readouterr().out
    assert "bad 1.0: GHSA-1, fixed in 1.1" in out
    assert "bad 1.0: GHSA-2, not fixed yet" in out


def test_an_ignored_advisory_is_ignored_by_any_of_its_names_until_it_is_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = package("bad", ("GHSA-1", None))
    assert verdict(bad, ignored={"GHSA-1": "why"}) == 0
    assert verdict(bad, ignored={"CVE-GHSA-1": "why"}) == 0
    assert verdict(package("bad"), ignored={"GHSA-1": "why"}) == 1
    assert "names GHSA-1" in capsys.readouterr().out


def test_what_was_not_asked_is_said_and_fails_only_where_that_is_required(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT", raising=False)
    assert verdict(package("fine"), skipped("unknown")) == 0
    assert "NOT AUDITED" in capsys.readouterr().out
    assert verdict(skipped("unknown"), package("bad", ("GHSA-1", None))) == 1
    monkeypatch.setenv("AUDIT", "required")
    assert verdict(package("fine"), skipped("unknown")) == 1
    assert verdict() == 1, "an answer about nothing is none"
    assert verdict(package("fine")) == 0


def test_no_answer_is_no_audit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered() -> dict[str, Any]:
        raise ValueError

    monkeypatch.setattr(audit, "run", unanswered)
    monkeypatch.delenv("AUDIT", raising=False)
    assert audit.main() == 0
    assert "NOT AUDITED" in capsys.readouterr().out


def test_every_ignored_advisory_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in audit.IGNORED.values())
