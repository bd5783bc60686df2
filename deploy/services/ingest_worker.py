"""One of several ingest processes: `python -m deploy.services.ingest_worker NUMBER DESCRIPTOR`. See `ingest_host`."""

import sys

from prometheus_client import values

_NUMBER, _DESCRIPTOR = int(sys.argv[1]), int(sys.argv[2])
# Before anything counts: counters go on under the process's number when it is started again, not under a pid.
values.ValueClass = values.MultiProcessValue(lambda: _NUMBER)  # type: ignore[no-untyped-call]

import os  # noqa: E402
from pathlib import Path  # noqa: E402

from deploy import logs  # noqa: E402
from deploy.cli import exit_codes, run  # noqa: E402
from deploy.service import remember  # noqa: E402
from deploy.services.ingest import run_ingest_process  # noqa: E402
from deploy.wiring import load  # noqa: E402
from ingest import metrics  # noqa: E402
from ingest.id_table import IdTable  # noqa: E402


def main() -> None:
    with exit_codes():
        runtime = load()
        settings = runtime.settings
        logs.configure(f"ingest-{_NUMBER}", settings.data, settings.log_level, settings.log_stdout_level)
        remember(runtime)
        metrics.share(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
        table = IdTable(settings.dedupe_max_ids, descriptor=_DESCRIPTOR)
        run(run_ingest_process(runtime, table, _NUMBER))


main()
