"""One clock and one order for everything that is simulated. Must not look at the real clock, or do I/O of its own.

A node is a process: an event loop of asyncio's whose time passes only when nothing is left to do now. A crash is that
its loop never runs again: no `finally`, no `except`, as with kill -9.
"""

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_MS = 1_760_000_000_000
"""The wall clock when a simulation begins."""


class Scheduler:
    """Runs the nodes' callbacks by time, those of the same moment in the order in which they were asked for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.wall_offset_ms = 0
        """By how much the wall clock has jumped."""
        self.steps = 0
        self.current: Node | None = None
        self.errors: list[str] = []
        self._waiting: list[tuple[float, int, Node, asyncio.Handle]] = []
        self._asked = 0
        self._pids = 1000

    @property
    def now_ms(self) -> int:
        return START_MS + int(self.now * 1000) + self.wall_offset_ms

    def node(self, name: str) -> "Node":
        # The stubs call abstract whatever asyncio leaves to `NotImplementedError`: sockets, pipes, subprocesses.
        return Node(self, name)  # type: ignore[abstract]

    def next_pid(self) -> int:
        self._pids += 1
        return self._pids

    def ask(self, when: float, node: "Node", handle: asyncio.Handle) -> None:
        self._asked += 1
        heapq.heappush(self._waiting, (max(when, self.now), self._asked, node, handle))

    def run(self, is_over: Callable[[], bool], until: float) -> bool:
        """Whether it came to its end by that time."""
        while self._waiting and not self.errors:
            when, _, node, handle = heapq.heappop(self._waiting)
            if not node.is_alive or handle.cancelled():
                continue
            if when > until:
                self.ask(when, node, handle)
                return False
            self.now = when
            self.steps += 1
            self.current = node
            asyncio._set_running_loop(node)
            try:
                handle._run()
            finally:
                asyncio._set_running_loop(None)
                self.current = None
            if is_over():
                return True
        return False


class Node(asyncio.AbstractEventLoop):
    """A simulated process. What it hands to a thread takes `io_seconds`, and is lost with it."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.pid = scheduler.next_pid()
        self.is_alive = True
        self.doing: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        """What its threads are at."""
        self.tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Work that nobody waits for, and that must not fail."""

        def failed(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                self.call_exception_handler({"message": "a task failed", "exception": task.exception()})

        self.call_soon(lambda: self.create_task(work()).add_done_callback(failed))

    def crash(self) -> None:
        self.is_alive = False

    def time(self) -> float:
        return self.scheduler.now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.scheduler.ask(self.scheduler.now, self, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.scheduler.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.scheduler.ask(when, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        # Until the end of the simulation: what a crash leaves behind must not be tidied up in the middle of it.
        self.tasks.add(task)
        return task

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()
        number = id(future)
        self.doing[number] = (func, args)

        def done() -> None:
            del self.doing[number]
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self.io_seconds(), done)
        return future

    def io_seconds(self) -> float:
        random = self.scheduler.random
        return random.random() * (2.0 if random.random() < 0.02 else 0.01)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.is_alive:
            self.scheduler.errors.append(f"{self.name}: {context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
