"""`python -m tests.audit`, part of `make check`: no installed package has a published vulnerability that we know no reason to live with.

PyPI's own API is asked, through pip-audit. Where it can't be asked (offline, or behind a mirror that has packages and
no advisories), that is said and is no failure, unless AUDIT=required. Must not call an audit done that was not.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

SECONDS: Final = 20
"""Of one `make check`; a run that has its answers cached takes two."""

IGNORED: Final[dict[str, str]] = {}
"""Advisory -> why it does not concern us, and until when. Only what has no fixed version that we can use."""


@dataclass(frozen=True)
class Audit:
    """`found`: lines about vulnerabilities; `unasked`: packages of which nothing is known; `stale`: needless ignores."""

    asked: int
    found: list[str]
    unasked: list[str]
    stale: list[str]

    @property
    def is_done(self) -> bool:
        return self.asked > 0 and not self.unasked


def judge(document: dict[str, Any], ignored: dict[str, str]) -> Audit:
    """Of what `pip-audit --format json` printed."""
    found, unasked, seen, asked = [], [], set(), 0
    for package in document["dependencies"]:
        if "skip_reason" in package:
            unasked.append(package["name"])
            continue
        asked += 1
        for one in package["vulns"]:
            names = {one["id"], *one.get("aliases", ())}
            seen |= names
            if not names & ignored.keys():
                fixed = f"fixed in {', '.join(one['fix_versions'])}" if one["fix_versions"] else "not fixed yet"
                found.append(f"{package['name']} {package['version']}: {one['id']}, {fixed}")
    return Audit(asked, found, unasked, sorted(ignored.keys() - seen))


def run() -> dict[str, Any]:
    """Raises `TimeoutExpired`, or `ValueError` where there was no answer."""
    # By its path: the editable install is ourselves.
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=SECONDS, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    editable = "distribution marked as editable"
    document["dependencies"] = [one for one in document["dependencies"] if one.get("skip_reason") != editable]
    return document


def report(audit: Audit) -> int:
    """Print what there is to say; returns the exit code."""
    for line in audit.found:
        print(f"vulnerable: {line}")
    if audit.is_done:
        for name in audit.stale:
            print(f"IGNORED in tests/audit.py names {name}, which nothing installed has any more")
        return 1 if audit.found or audit.stale else 0
    print(
        f"DEPENDENCIES NOT AUDITED: PyPI's advisories of {len(audit.unasked) or 'all'} packages could not be had"
        " (offline, or a mirror without them). AUDIT=required makes this a failure."
    )
    return 1 if audit.found or os.environ.get("AUDIT") == "required" else 0


def main() -> int:
    try:
        return report(judge(run(), IGNORED))
    except (subprocess.TimeoutExpired, ValueError):
        return report(Audit(0, [], [], []))


if __name__ == "__main__":
    sys.exit(main())
