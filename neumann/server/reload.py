"""A changed configuration, taken by the running node: POST /admin/reload and SIGHUP.

All of it is read and checked before any of it is taken, so what is refused changes nothing. Keys that need a
restart are named, and keep their running values.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from neumann.config import Change, Changes, Config, changes
from neumann.env.files import read_file
from neumann.errors import ConfigError, NeumannError, RefusedByState
from neumann.runtime.node import Node

T = TypeVar("T")
log = logging.getLogger(__name__)


class Reload:
    """`read` gives the configuration as a start would have it now (on a thread); `begin_log` takes [log].
    `token` is the one that HTTP requests must carry now, "" for none."""

    def __init__(
        self,
        node: Node,
        config: Config,
        read: Callable[[], Config] | None = None,
        begin_log: Callable[[Config], None] = lambda config: None,
    ) -> None:
        self.token = _read_token(node, config.security.token_file)
        self._node = node
        self._read = read
        self._begin_log = begin_log
        self._lane = node.env.lane("reload")
        self._one_at_a_time = asyncio.Lock()
        self._asked: set[asyncio.Task[Any]] = set()

    async def run(self) -> dict[str, Any]:
        """Take what has changed. ConfigError for what a start would refuse: then nothing is changed. Goes on
        where the caller goes away."""
        return await asyncio.shield(self._begin(self._run()))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return task

    async def _run(self) -> dict[str, Any]:
        read = self._read
        if read is None:
            raise RefusedByState("this node has no configuration that could be read again")
        async with self._one_at_a_time:
            found, self.token = await self._lane.run(lambda: self._look(read))
            self._node.take_config(found.config)
            self._begin_log(found.config)
        for change in found.taken:
            if change.running == change.given:
                log.info("%s: what %s holds has changed", change.key, change.given)
            else:
                log.info("%s is %r now, and was %r", change.key, change.given, change.running)
        for change in found.waiting:
            log.warning("%s stays %r: %r needs a restart", change.key, change.running, change.given)
        return {
            "changed": [_facts(change) for change in found.taken],
            "needs_restart": [_facts(change) for change in found.waiting],
        }

    def _look(self, read: Callable[[], Config]) -> tuple[Changes, str]:
        """Another word in the same token file is a change from its name to its name: no word is told."""
        found = changes(self._node.config, read())
        path = found.config.security.token_file
        token = _read_token(self._node, path)
        if token != self.token and path == self._node.config.security.token_file:
            found = found._replace(taken=(*found.taken, Change("[security] token_file", path, path)))
        return found, token

    def signalled(self) -> None:
        """SIGHUP: the same, and what is wrong is a line in the log."""
        self._begin(self._run_and_log())

    async def _run_and_log(self) -> None:
        try:
            await self._run()
        except NeumannError as error:
            log.error("the configuration stays as it was: %s", error)

    async def close(self) -> None:
        """End its thread, once what is under way has ended."""
        if self._asked:
            await asyncio.wait(self._asked)
        self._lane.close()


def _facts(change: Change) -> dict[str, object]:
    def plain(value: object) -> object:
        return value if isinstance(value, bool | int | float | str) else dict(value)  # type: ignore[call-overload]

    return {"key": change.key, "running": plain(change.running), "given": plain(change.given)}


def _read_token(node: Node, path: str) -> str:
    if not path:
        return ""
    try:
        token = read_file(node.env.disk, path).decode().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"security.token_file {path} can't be read: {error}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"security.token_file {path} does not hold one word", remedy="write a random token")
    return token
