"""Whole files, fetched by several threads ahead of who takes them one after the other.

What waits for latency, another host's or an object store's, is waited for by several at once; what is taken
comes in the order that was announced, and a failure comes with the file that it belongs to. At most `jobs`
whole files, and about BYTES_MAX, are held or under way at a time, and of small work (`each`) as many results
as _RESULTS_A_JOB says. One job means no thread: each file is read when it is asked for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from neumann.env.doors import Files
from neumann.env.files import read_file
from neumann.env.places import Places

BYTES_MAX = 256 * 1024 * 1024
_RESULTS_A_JOB = 16
"""Of small work: who is connected first goes on, while the others still dial."""
T = TypeVar("T")


class Ahead:
    """See the module. For one thread that takes; `close` ends the others, and may be followed by more."""

    def __init__(self, files: Files, jobs: int = 1) -> None:
        assert jobs > 0
        self._files = files
        self._jobs = jobs
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._opened: list[Places] = []
        self._waiting: deque[tuple[str, int]] = deque()
        self._fetched: dict[str, tuple[Future[bytes], int]] = {}

    def each(self, work: Callable[[Files, str], T], paths: Iterable[str]) -> Iterator[T]:
        """The results of small work on each path, in order; what one raised is raised in its place."""
        if self._jobs == 1:
            yield from (work(self._files, path) for path in paths)
            return
        under_way: deque[Future[T]] = deque()
        for path in paths:
            under_way.append(self._begin(work, path))
            if len(under_way) >= self._jobs * _RESULTS_A_JOB:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def announce(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Which files, of about how many bytes, are read next, in that order; what was announced before is
        forgotten. A guess: others may be read, and not all of these."""
        if self._jobs == 1:
            return
        self._forget()
        self._waiting.extend(wanted)
        self._fill()

    def read(self, path: str) -> bytes:
        """All of a file. Those that were announced before it are no longer held."""
        if path not in self._fetched and all(path != later for later, _ in self._waiting):
            return read_file(self._files, path)
        while path not in self._fetched:
            self._drop_first()
            self._fill()
        while next(iter(self._fetched)) != path:
            self._drop_first()
        fetched, _ = self._fetched[path]
        try:
            return fetched.result()
        finally:
            del self._fetched[path]
            self._fill()

    def close(self) -> None:
        """Forget what was announced, and end the threads and their connections."""
        self._forget()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None
        for places in self._opened:
            places.close()
        self._opened.clear()
        self._own = threading.local()

    def _fill(self) -> None:
        """Begin as many fetches as may be under way or held."""
        while self._waiting and len(self._fetched) < self._jobs:
            path, size = self._waiting[0]
            held = sum(bytes_ for _, bytes_ in self._fetched.values())
            if self._fetched and held + size > BYTES_MAX:
                return
            self._waiting.popleft()
            self._fetched[path] = self._begin(read_file, path), size

    def _drop_first(self) -> None:
        """Of what was announced, the first is not wanted."""
        if self._fetched:
            fetched, _ = self._fetched.pop(next(iter(self._fetched)))
            fetched.cancel()
        else:
            self._waiting.popleft()

    def _forget(self) -> None:
        self._waiting.clear()
        while self._fetched:
            self._drop_first()

    def _begin(self, work: Callable[[Files, str], T], path: str) -> Future[T]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._jobs, thread_name_prefix="fetch")
        return self._threads.submit(lambda: work(self._files_here(), path))

    def _files_here(self) -> Files:
        """This thread's own: a connection over ssh takes one command at a time."""
        if not isinstance(self._files, Places):
            return self._files
        here: Places | None = getattr(self._own, "places", None)
        if here is None:
            here = self._own.places = self._files.another()
            self._opened.append(here)
        return here
