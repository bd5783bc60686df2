"""The sources that were disabled when this host last knew: the ingress obeys this until it can read the log again.
Must not be the truth: that is `webhooks.control`.
"""

import os
from pathlib import Path
from typing import Final

import orjson

from ingest import metrics

FILE: Final = "disabled-sources.json"


class LastHeard:
    """One file for all processes of the host; each writes what it hears, whole."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written: frozenset[str] | None = None

    def read(self) -> frozenset[str]:
        """No source where there is no such file, or none that can be read: deliveries must not be lost for that."""
        try:
            found = orjson.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return frozenset()
        return frozenset(name for name in found if isinstance(name, str)) if isinstance(found, list) else frozenset()

    def write(self, names: frozenset[str]) -> None:
        """A failed write (a full disk) is counted; the next change tries again."""
        if names == self._written:
            return
        draft = self._path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_bytes(orjson.dumps(sorted(names)))
            draft.replace(self._path)
        except OSError as error:
            metrics.disabled_not_saved(error)
        else:
            self._written = names
