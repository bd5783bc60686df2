"""`redrive …` as a real process that does not import everything again: forked from one that has.

Importing takes most of a command's CPU time, and a run starts hundreds. A forked process has its own environment,
folder, signals and exit code; only its interpreter is not a fresh one. `redrive up` starts its services as ever.
"""

import asyncio
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).parents[2]
_INT: Final = struct.Struct("<i")
_LIMIT: Final = 1 << 18
"""Bytes of a request: arguments, folder, environment."""


def die_with(parent: int) -> None:
    """SIGKILL to this process once its parent is gone, however it went."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


class Process:
    """As `asyncio.subprocess.Process`, of a process that is not our own child."""

    def __init__(
        self, pid: int, status: socket.socket, stdin: int | None, out: asyncio.StreamReader | None, err: Any
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = out
        self.stderr: asyncio.StreamReader | None = err
        self._stdin = stdin
        self._status = status
        self._waiting = asyncio.create_task(self._wait())

    async def _wait(self) -> int:
        loop = asyncio.get_running_loop()
        code = await loop.sock_recv(self._status, _INT.size)
        self._status.close()
        # Nothing at all: the process that forks is gone, and took this one along.
        self.returncode = _INT.unpack(code)[0] if code else -signal.SIGKILL
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._waiting)

    async def communicate(self, given: bytes | None = None) -> tuple[bytes, bytes]:
        async def read(stream: asyncio.StreamReader | None) -> bytes:
            return await stream.read() if stream else b""

        if self._stdin is not None:
            with os.fdopen(self._stdin, "wb") as stdin, suppress(BrokenPipeError):
                await asyncio.to_thread(stdin.write, given or b"")
        out, err, _ = await asyncio.gather(read(self.stdout), read(self.stderr), self.wait())
        return out, err

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def redrive(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int | IO[bytes] = DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Process:
    """Start `redrive ARGUMENTS` there; streams as for `asyncio.create_subprocess_exec`."""
    with ExitStack() as closing:

        def pipe() -> tuple[int, int]:
            return os.pipe2(os.O_CLOEXEC)

        def ours(fd: int) -> int:
            closing.callback(os.close, fd)
            return fd

        def target(given: int | IO[bytes] | None, inherited: int) -> tuple[int, int | None]:
            """(what the process gets, what we read of it)"""
            if given is None:
                return inherited, None
            if given == PIPE:
                read, write = pipe()
                return ours(write), read
            if given == DEVNULL:
                return ours(os.open(os.devnull, os.O_RDWR)), None
            return (given if isinstance(given, int) else given.fileno()), None

        write_in: int | None = None
        if stdin == PIPE:
            read_in, write_in = pipe()
            given_in = ours(read_in)
        else:
            given_in, _ = target(stdin, 0)
        out, read_out = target(stdout, 1)
        err, read_err = target(stderr, 2)
        status, theirs = socket.socketpair()
        closing.callback(theirs.close)
        request = json.dumps([arguments, str(cwd), dict(env)]).encode()
        assert len(request) < _LIMIT
        socket.send_fds(_zygote(), [request], [given_in, out, err, theirs.fileno()])
    status.setblocking(False)
    pid = _INT.unpack(await asyncio.get_running_loop().sock_recv(status, _INT.size))[0]
    return Process(pid, status, write_in, await _reader(read_out), await _reader(read_err))


async def _reader(fd: int | None) -> asyncio.StreamReader | None:
    if fd is None:
        return None
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb"))
    return reader


@cache
def _zygote() -> socket.socket:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
    return ours


def _serve(control: socket.socket) -> tuple[list[str], str, dict[str, str], list[int]] | None:
    """Fork for every request, and send each exit code where it is awaited. Returns in the forked process what it is to
    do, and None once nobody can ask any more.
    """
    parent = os.getpid()
    running: dict[int, int] = {}
    wakeup, woken = socket.socketpair()
    for end in (wakeup, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wakeup:
                    wakeup.recv(4096)
                    _reap(running)
                    continue
                message, given, _, _ = socket.recv_fds(control, _LIMIT, 4)
                if not message:
                    return None
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    die_with(parent)
                    arguments, folder, environment = json.loads(message)
                    return arguments, folder, environment, given
                *streams, status = given
                for fd in streams:
                    os.close(fd)
                os.write(status, _INT.pack(pid))
                running[pid] = status


def _reap(running: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            awaited = running.pop(pid)
            with suppress(OSError):
                os.write(awaited, _INT.pack(os.waitstatus_to_exitcode(status)))
            os.close(awaited)


def _main(fd: int, parent: int) -> None:
    die_with(parent)
    import dateparser
    import rich.progress

    from deploy import cli, library_errors, plugins
    from deploy.services import console, ingest, processors, worker_host
    from tests.support.commands import every_command

    # What a command imports only when it needs it, too.
    del console, ingest, processors, worker_host, library_errors, plugins, dateparser, rich
    every_command()
    gc.freeze()
    asked = _serve(socket.socket(fileno=fd))
    if asked is None:
        return
    arguments, folder, environment, streams = asked
    for number, stream in enumerate(streams[:3]):
        os.dup2(stream, number)
    os.closerange(3, max(*streams, fd) + 64)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate(("r", "w", "w")))  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["redrive", *arguments]
    cli.main()


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
