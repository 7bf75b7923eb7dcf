"""Real nodes in this process: real doors, real sockets, directories of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from neumann.config import (
    Config,
    NodeConfig,
    RaftConfig,
    SnapshotConfig,
    StoreConfig,
    WalConfig,
)
from neumann.env import Env, real_env
from neumann.format.command import encode_put, pack_value
from neumann.runtime.node import Node
from neumann.server import rpc
from tests.ports import free_ports

TIMEOUT_S = 20.0


def config_of(root: Path, node_id: str = "n1", peers: dict[str, str] | None = None, **wal: Any) -> Config:
    """One node's settings: short timeouts, and nothing asked of the disk's room."""
    return Config(
        node=NodeConfig(
            id=node_id,
            data_dir=str(root / node_id),
            listen=(peers or {}).get(node_id) or f"127.0.0.1:{free_ports(1)[0]}",
            admin_listen="127.0.0.1:1",
            peers=peers or {},
        ),
        raft=RaftConfig(heartbeat_ms=20, election_timeout_ms=150),
        wal=replace(WalConfig(segment_bytes_max=256 * 1024), **wal),
        snapshot=SnapshotConfig(publish_interval_s=0.0),
        store=StoreConfig(disk_free_bytes_min=0),
    )


def configs_of(root: Path, count: int) -> list[Config]:
    """Nodes n1..nN that name each other."""
    peers = {f"n{i}": f"127.0.0.1:{port}" for i, port in enumerate(free_ports(count), 1)}
    return [config_of(root, node_id, peers) for node_id in peers]


class Running:
    """A node and its RPC server."""

    def __init__(self, node: Node, server: rpc.RpcServer) -> None:
        self.node = node
        self.server = server

    async def stop(self) -> None:
        """As the program does it."""
        await self.server.close()
        await self.node.stop()


async def start(config: Config, env: Env | None = None) -> Running:
    """Start it and listen."""
    node = await Node.start(config, env or real_env(), bootstrap=True)
    return Running(node, await rpc.serve(node, config.node.listen))


@asynccontextmanager
async def one_node(config: Config, env: Env | None = None) -> AsyncIterator[Node]:
    """A node alone, leading."""
    running = await start(config, env)
    try:
        await until(lambda: leads(running.node), "it leads")
        yield running.node
    finally:
        await running.stop()


@asynccontextmanager
async def cluster(root: Path, count: int = 3) -> AsyncIterator[list[Running]]:
    """A formed cluster; whoever is left at the end is stopped."""
    running = [await start(config) for config in configs_of(root, count)]
    try:
        await until(lambda: is_formed(running), f"{count} voters")
        yield running
    finally:
        await asyncio.gather(*(one.stop() for one in running))


def leads(node: Node) -> bool:
    """Whether it takes writes."""
    return node.member is not None and node.member.leads


def is_formed(running: list[Running]) -> bool:
    """Whether one leads, and all vote."""
    leading = [one.node.member for one in running if leads(one.node)]
    return any(m is not None and len(m.raft.configuration.voters) == len(running) for m in leading)


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {TIMEOUT_S:g} s: {what}") from None


def put(key: str, value: object = 0, table: str = "t") -> bytes:
    """A command."""
    return encode_put(table, key, pack_value(value))


async def write_rows(node: Node, keys: range, value: object = 0) -> None:
    """Acknowledged rows `<number>`."""
    await asyncio.gather(*(node.write(put(f"{key:05d}", value)) for key in keys))


async def keys_of(node: Node, table: str = "t") -> list[str]:
    """All keys, page by page."""
    keys: list[str] = []
    start_at = ""
    while True:
        page = await node.scan(table, start=start_at)
        keys += [row[0] for row in page.rows]
        if not page.cursor:
            return keys
        start_at = page.cursor


@contextmanager
def unhandled_errors() -> Iterator[list[dict[str, Any]]]:
    """What the event loop is told that nobody handled."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        yield told
    finally:
        loop.set_exception_handler(None)
