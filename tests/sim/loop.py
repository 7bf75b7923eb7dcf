"""A virtual-time event loop: asyncio code runs unchanged, deterministically, and faster than real time.

There is no selector, no thread and no wall clock. What is ready runs first in, first out; when nothing
is ready, time jumps to the earliest timer; timers of one moment run in the order they were made. So a
run is a function of the code and of whoever seeds its random numbers.

A `Process` is what a crash kills. Everything that code started inside a process starts later (tasks,
timers, callbacks) belongs to it, because asyncio carries the context along. A killed process never runs
another line: its callbacks are dropped, and its suspended coroutines are kept, unfinalised, until the
loop is closed, since finalising one would run its `finally` blocks: code of a machine that lost power.
A callback that ends in the disk's `SimCrash` kills its process.

Used by tests/sim/world.py and by tests of single parts. Not for threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from weakref import WeakSet

from tests.sim.disk import SimCrash

START_S = 1000.0
"""What loop.time() shows at first: no machine's monotonic clock is 0."""

STEPS_WITHOUT_TIME_MAX = 200_000
"""More callbacks than this in one moment are a busy loop."""

T = TypeVar("T")
_process: ContextVar[Process | None] = ContextVar("process", default=None)


class SimulationStuck(Exception):
    """Nothing will ever happen again, or time stands still for ever."""


class ProcessDied(Exception):
    """The process was killed before it answered."""


class Handle:
    """One callback to come; what asyncio's own handles are to their callers."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "process", "when_s")

    def __init__(
        self, when_s: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self.when_s = when_s
        self.callback = callback
        self.args = args
        if context is None:
            context = copy_context()
        self.context = context
        self.process = context.get(_process)
        self.is_cancelled = False

    def cancel(self) -> None:
        """Don't run it."""
        self.is_cancelled = True
        self.callback, self.args = _nothing, ()

    def cancelled(self) -> bool:
        """Whether cancel() was called."""
        return self.is_cancelled

    def when(self) -> float:
        """The loop time it is due at."""
        return self.when_s


def _nothing(*_: object) -> None:
    """What a cancelled handle holds, so that it holds nothing alive."""


class Process:
    """A crash domain. `observer`, if set, is called after each of its callbacks."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.is_alive = True
        self.observer: Callable[[], None] | None = None
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.stalled: list[Handle] | None = None
        self._at_death: list[Callable[[], None]] = []
        self._context = copy_context()
        self._context.run(_process.set, self)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task in this process."""
        assert self.is_alive, f"{self.name} is dead"
        return self.loop.create_task(coroutine, name=name, context=self.context())

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it in this process and await it from outside. ProcessDied if a crash comes first."""
        if not self.is_alive:
            coroutine.close()
            raise ProcessDied(self.name)
        task = self.spawn(coroutine)
        over: asyncio.Future[None] = self.loop.create_future()

        def end(_: object = None) -> None:
            if not over.done():
                over.set_result(None)

        task.add_done_callback(end)
        self.at_death(end)
        try:
            await over
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._at_death.remove(end)
        if not self.is_alive or not task.done():
            raise ProcessDied(self.name)
        return task.result()

    def run(self, function: Callable[..., T], *args: object) -> T:
        """Call a plain function as this process: what it starts belongs to it."""
        return self.context().run(function, *args)

    def context(self) -> Context:
        """For call_soon and its like: the callback then belongs to this process."""
        return self._context.copy()

    def at_death(self, callback: Callable[[], None]) -> None:
        """Call it when the process is killed; whoever registers keeps it short."""
        self._at_death.append(callback)

    def stall(self) -> None:
        """Run nothing of it for a while, as SIGSTOP or a long pause of a virtual machine does."""
        if self.stalled is None:
            self.stalled = []

    def resume(self) -> None:
        """Run now, late, what came due meanwhile."""
        handles, self.stalled = self.stalled or [], None
        self.loop.run_soon(handles)

    def kill(self) -> None:
        """From now on none of its code runs."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.loop.bury(self)
        callbacks, self._at_death = self._at_death, []
        for callback in callbacks:
            callback()


def current_process() -> Process | None:
    """The process whose code is running; None for the world itself."""
    return _process.get()


class SimLoop:
    """The event loop. A context manager: at its end everything left over is closed."""

    def __init__(self) -> None:
        self.steps = 0
        self._as_asyncio = cast(asyncio.AbstractEventLoop, self)
        self.failure: BaseException | None = None
        self._now_s = START_S
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._timer_count = 0
        self._task_count = 0
        self._processes: list[Process] = []
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._graveyard: list[asyncio.Task[Any]] = []
        self._is_closed = False

    # --- what asyncio calls ----------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_s

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run it in this moment, after what is ready already."""
        handle = Handle(self._now_s, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """As call_soon: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run it `delay` virtual seconds from now."""
        when = self._now_s + delay
        handle = Handle(when, callback, args, context)
        self._timer_count += 1
        heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run it when the time is `when`."""
        handle = Handle(when, callback, args, context)
        self._timer_count += 1
        heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self._as_asyncio)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of this loop; it belongs to the process of its context."""
        self._task_count += 1  # not asyncio's own counter, which is global to the interpreter
        task = asyncio.Task(
            coro, loop=self._as_asyncio, name=name or f"sim-{self._task_count}", context=context
        )
        if self._is_closed:  # of a `finally` block of what is being closed: it never runs
            coro.close()
        process = _process.get() if context is None else context.get(_process)
        (self._tasks if process is None else process.tasks).add(task)
        if process is not None and not process.is_alive:
            self._graveyard.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Whatever nobody handles fails the run, unless it is of a dead process."""
        buried = context.get("task") or context.get("future")
        if self._is_closed or buried in self._graveyard:
            return
        error = context.get("exception")
        if isinstance(error, SimCrash):
            return
        self._fail(error if error is not None else RuntimeError(context["message"]))

    def get_debug(self) -> bool:
        """Debug mode would read the wall clock."""
        return False

    def is_running(self) -> bool:
        """Always, where asyncio asks."""
        return True

    def is_closed(self) -> bool:
        """Whether the run is over."""
        return self._is_closed

    # --- the run ---------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """A new, living process."""
        process = Process(self, name)
        self._processes.append(process)
        return process

    def run(self, main: Coroutine[Any, Any, T], limit_s: float = float("inf")) -> T:
        """Run until `main` is done, or fail with the first error that nobody handled.

        SimulationStuck when it takes longer than `limit_s` virtual seconds.
        """
        assert not self._is_closed
        # A finaliser must not run at a moment that the garbage collector chose.
        had_gc = gc.isenabled()
        gc.disable()
        events._set_running_loop(self._as_asyncio)
        try:
            task = self.create_task(main, name="main")
            ends_s = self._now_s + limit_s
            while not task.done() and self.failure is None:
                self._run_moment(task)
                if self._now_s > ends_s:
                    raise SimulationStuck(f"no end after {limit_s:g} s")
            if self.failure is not None:
                raise self.failure
            return task.result()
        finally:
            events._set_running_loop(None)
            if had_gc:
                gc.enable()

    def _run_moment(self, main: asyncio.Task[Any]) -> None:
        """Advance time if nothing is ready, then run callbacks until nothing is."""
        ready = self._ready
        if not ready:
            self._advance()
        steps = 0
        while ready and self.failure is None:
            handle = ready.popleft()
            if handle.is_cancelled:
                continue
            process = handle.process
            if process is not None:
                if not process.is_alive:
                    continue
                if process.stalled is not None:
                    process.stalled.append(handle)
                    continue
            steps += 1
            if steps > STEPS_WITHOUT_TIME_MAX:
                raise SimulationStuck(f"busy loop at {self._now_s:.6f}: {handle.callback} {handle.args}")
            try:
                handle.context.run(handle.callback, *handle.args)
                if process is None:
                    if main.done():
                        break
                elif process.observer is not None and process.is_alive:
                    process.observer()
            except (KeyboardInterrupt, SystemExit):
                raise
            except SimCrash:
                assert process is not None, "only a node's own code touches its disk"
                process.kill()
            except BaseException as error:
                if process is None or process.is_alive:
                    self._fail(error)
        self.steps += steps

    def _advance(self) -> None:
        timers, ready = self._timers, self._ready
        while timers and timers[0][2].is_cancelled:
            heappop(timers)
        if not timers:
            raise SimulationStuck(f"nothing will ever happen again, at {self._now_s:.6f}")
        now_s = self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= now_s:
            ready.append(heappop(timers)[2])

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error

    # --- the end ---------------------------------------------------------------------------------

    def run_soon(self, handles: list[Handle]) -> None:
        """Make these ready, in this order. Called by Process.resume."""
        self._ready.extend(handles)

    def bury(self, process: Process) -> None:
        """Keep a killed process's coroutines from being finalised. Called by Process.kill."""
        self._graveyard += process.tasks

    def close(self) -> None:
        """Close every coroutine that is left; nothing they start runs any more."""
        if self._is_closed:
            return
        self._is_closed = True
        for process in self._processes:
            if process.is_alive:
                process.is_alive = False
                self.bury(process)
        events._set_running_loop(self._as_asyncio)
        try:
            for task in [*self._graveyard, *self._tasks]:
                _dispose(task)
        finally:
            events._set_running_loop(None)
        self._graveyard.clear()
        self._ready.clear()
        self._timers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _dispose(task: asyncio.Task[Any]) -> None:
    """End a task without running the loop: its `finally` blocks run, and whatever they raise is lost."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    if not task.done() and coroutine is not None:
        with contextlib.suppress(BaseException):
            coroutine.close()
