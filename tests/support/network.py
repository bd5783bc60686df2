"""A network between the services and their servers that can be slow, broken or split. Must not look into what it carries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Proxy:
    """Forwards a TCP port to wherever `connect` leads."""

    def __init__(self, connect: Open) -> None:
        self._connect = connect
        self._passes = asyncio.Event()
        self._passes.set()
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.delay_seconds = 0.0
        """Of every piece, each way."""
        self.carried = 0
        """Pieces that went through."""

    def split(self) -> None:
        """Nothing goes through any more, and nobody is told: connections hang, new ones as well."""
        self._passes.clear()

    def cut(self) -> None:
        """Connections break, and new ones break at once."""
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        self._is_cut = False
        self.delay_seconds = 0.0
        self._passes.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways. Where nobody answers at the other end, it breaks."""
        ends = {writer}
        self._writers |= ends
        try:
            await self._passes.wait()
            if not self._is_cut:
                far_reader, far_writer = await self._connect()
                ends.add(far_writer)
                self._writers |= ends
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except OSError:
            pass
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(64 * 1024):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._passes.wait()
                writer.write(piece)
                await writer.drain()
                self.carried += 1
        writer.close()


@asynccontextmanager
async def proxy(connect: Open, port: int = 0) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy on a loopback port, and that port."""
    found = Proxy(connect)
    server = await asyncio.start_server(found.carry, "127.0.0.1", port)
    try:
        yield found, server.sockets[0].getsockname()[1]
    finally:
        found.heal()
        found.cut()
        server.close()
