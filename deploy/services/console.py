"""The operators' service as a process."""

from typing import Final

from aiohttp import web

from deploy.service import health_routes, listen, read_again, reload_event, stop_event, wait_for_signal
from deploy.services.checks import BrokerCheck, DatabaseCheck
from deploy.wiring import Runtime, open_pool
from replay.api import create_console

DRAIN_SECONDS: Final = 20.0


async def run_console(runtime: Runtime) -> None:
    """Until SIGTERM. SIGHUP reads the configuration again."""
    settings = runtime.settings
    stop, reload = stop_event(), reload_event()
    pool = await open_pool(settings, size=4)
    broker, checks = BrokerCheck(settings.require_kafka()), DatabaseCheck(pool)
    names = sorted(runtime.sources)

    async def readiness() -> dict[str, bool]:
        database, schema = await checks.ask()
        return {"broker": await broker.is_up(), "database": database, "schema": schema}

    app = create_console(pool, settings.admin_api_key, names)
    app.add_routes(health_routes(readiness))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    try:
        await listen(runner, settings.console_host, settings.console_port, "CONSOLE_PORT")
        while await wait_for_signal(stop, reload):
            changed = read_again()
            if changed is not None:
                names[:] = sorted(changed.sources)
    finally:
        await runner.cleanup()
        pool.terminate()
