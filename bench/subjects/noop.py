"""The ceiling of the ingress: an aiohttp application that reads the body and answers 200, and does nothing else."""

import asyncio
import multiprocessing
import os
import signal

import uvloop
from aiohttp import web


async def answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b"{}", headers={"Content-Type": "application/json"})


async def main() -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = os.environ["INGEST_HOST"], int(os.environ["INGEST_PORT"])
    await web.TCPSite(runner, host, port, reuse_port=True).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


def serve() -> None:
    uvloop.run(main())


if __name__ == "__main__":
    # Daemons: they are stopped when this process is.
    for _ in range(int(os.environ["INGEST_WORKERS"]) - 1):
        multiprocessing.Process(target=serve, daemon=True).start()
    serve()
