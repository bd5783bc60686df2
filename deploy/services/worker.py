"""One of several processes of a service: `python -m deploy.services.worker SERVICE NUMBER [DESCRIPTOR]`. See
`worker_host`, which starts them.
"""

import sys

from prometheus_client import values

_SERVICE, _NUMBER, _DESCRIPTORS = sys.argv[1], int(sys.argv[2]), [int(one) for one in sys.argv[3:]]
# Before anything counts: counters go on under the process's number when it is started again, not under a pid.
values.ValueClass = values.MultiProcessValue(lambda: _NUMBER)  # type: ignore[no-untyped-call]

import os  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Coroutine  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from prometheus_client import CollectorRegistry  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402

from deploy import logs  # noqa: E402
from deploy.event_loop import run  # noqa: E402
from deploy.exit_codes import exit_codes, report_line  # noqa: E402
from deploy.service import remember, told  # noqa: E402
from deploy.wiring import Runtime, adopt, load  # noqa: E402

# A partition that went to another process keeps its last lag in the file of this one; the most recent counts.
warnings.filterwarnings("ignore", message=".*has not been implemented in multi-process mode")


def _work(runtime: Runtime, registry: CollectorRegistry) -> Coroutine[Any, Any, None]:
    # Only the service's own modules: its page must not have the others' counters.
    if _SERVICE == "processors":
        from deploy.services.processors import run_processors_process

        return run_processors_process(runtime, _NUMBER, registry)
    from deploy.services.ingest import run_ingest_process
    from ingest import metrics
    from ingest.dedupe.id_table import IdTable

    metrics.share(registry)
    table = IdTable(runtime.settings.dedupe_max_ids, descriptor=_DESCRIPTORS[0])
    return run_ingest_process(runtime, table, _NUMBER)


def _reserve_counters(folder: Path) -> None:
    """The library maps files with holes; on a full disk, the first count that falls into one ends the process."""
    for path in folder.glob(f"*_{_NUMBER}.db"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def main() -> None:
    with exit_codes(report_line):
        runtime = load()
        settings = runtime.settings
        logs.configure(f"{_SERVICE}-{_NUMBER}", settings.data, settings.log_level, settings.log_stdout_level)
        remember(runtime)
        adopt(runtime)
        # Scrapes reach one process, and speak for all that count in this folder.
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=os.environ["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        work = _work(runtime, registry)
        _reserve_counters(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
        with told():
            run(work)


main()
