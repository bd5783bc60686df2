"""Child processes that die with their parent, in sessions of their own, and are started again when they fail."""

import asyncio
import ctypes
import logging
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from deploy.exit_codes import EXIT_MISCONFIGURED
from schemas.masking import reason_of

log: Final = logging.getLogger("redrive.supervisor")
_PR_SET_PDEATHSIG: Final = 1
RESTART_SECONDS: Final = 1.0

LOOK_SECONDS: Final = 0.5
TELL_SECONDS: Final = 60.0
"""How often those are named that gave up."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a child and how to stop it. `user` is a system user, for programs that refuse root."""

    name: str
    argv: Sequence[str]
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 30.0
    user: str | None = None
    home: Path | None = None
    descriptors: Sequence[int] = ()
    """Open files that it gets."""


class Child:
    """A running child."""

    def __init__(self, command: Command, announce: Callable[[str], None]) -> None:
        self.command = command
        self._announce = announce
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.restarts = 0
        self.gave_up = asyncio.Event()
        """Set when it said that it can't work as it is configured: starting it again would not help."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def has_exited(self) -> bool:
        return self._process is None or self._process.returncode is not None

    async def start(self) -> None:
        await self._spawn()
        self._watch = asyncio.create_task(self._restart_when_gone())

    async def _spawn(self) -> None:
        command = self.command
        output: IO[bytes] | None = None
        if command.log is not None:
            command.log.parent.mkdir(parents=True, exist_ok=True)
            output = command.log.open("ab")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env={**os.environ, **command.environment},
                cwd=command.home,
                start_new_session=True,
                pass_fds=command.descriptors,
                **as_user(command.user),
                preexec_fn=_die_with_parent(command.stop_signal),
            )
        finally:
            if output is not None:
                output.close()

    async def _restart_when_gone(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            if self._is_stopping:
                return
            if code == EXIT_MISCONFIGURED:
                self._tell(
                    "gave_up",
                    "misconfigured",
                    code,
                    f"{self.command.name} can't run with this configuration: see its log",
                )
                self.gave_up.set()
                return
            self.restarts += 1
            self._tell("restarted", "child_ended", code, f"{self.command.name} ended with {code}; starting it again")
            await asyncio.sleep(RESTART_SECONDS)
            if self._is_stopping:
                return
            await self._spawn_until_it_works()

    async def _spawn_until_it_works(self) -> None:
        """A machine without memory or processes to give has some again in a while."""
        while not self._is_stopping:
            try:
                await self._spawn()
                return
            except OSError as error:
                self._tell(
                    "failed", "child_not_started", None, f"{self.command.name} could not be started: {reason_of(error)}"
                )
                await asyncio.sleep(RESTART_SECONDS)

    def _tell(self, outcome: str, code: str, exit_code: int | None, text: str) -> None:
        """To whoever watches, and to the log for those who come later."""
        self._announce(text)
        line = {"action": "supervise", "outcome": outcome, "code": code, "child": self.command.name}
        log.warning(text, extra={**line, "exit_code": exit_code, "restarts": self.restarts})

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def reload(self) -> None:
        """Have it read its configuration again; one that gave up is started again, and may find a better one."""
        if self.gave_up.is_set():
            self.gave_up.clear()
            await self.start()
        else:
            self.signal(signal.SIGHUP)

    async def stop(self) -> None:
        """Ask, wait, then kill the whole session."""
        self._is_stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(self.command.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.command.stop_seconds)
            except TimeoutError:
                seconds = self.command.stop_seconds
                self._tell(
                    "killed", "child_hung", None, f"{self.command.name} did not stop in {seconds:.0f} s; killing it"
                )
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if self._watch is not None:
            self._watch.cancel()


async def wait_until_all_give_up(children: Sequence[Child], announce: Callable[[str], None]) -> None:
    """Healthy children run on while others have given up, and must not hide them: the others are named at once, and
    then every minute. Returns when no child is left that would run on.
    """
    clock = asyncio.get_running_loop().time
    told: set[str] = set()
    told_at = clock()
    while True:
        gone = {child.command.name for child in children if child.gave_up.is_set()}
        if len(gone) == len(children):
            return
        if gone - told or (gone and clock() - told_at >= TELL_SECONDS):
            told_at = clock()
            names = ", ".join(sorted(gone))
            announce(f"{names} gave up; the others run on. Fix what its log reports, then SIGHUP starts it again")
        told = gone
        await asyncio.sleep(LOOK_SECONDS)


def as_user(name: str | None) -> dict[str, Any]:
    """Arguments of a subprocess that runs as that user, and keeps none of our groups."""
    if name is None:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _die_with_parent(stop_signal: signal.Signals) -> Callable[[], None]:
    """A killed parent can't stop its children; the kernel then does it (Linux; elsewhere they stay)."""
    parent = os.getpid()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        prctl = libc.prctl
    except (OSError, AttributeError):
        return lambda: None

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), stop_signal)

    return set_death_signal
