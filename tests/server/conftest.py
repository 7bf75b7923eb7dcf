"""One real node with its HTTP server, in this process, and a client of it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from neumann.config import Config, LimitsConfig, NodeConfig, RaftConfig, SecurityConfig
from neumann.env import real_env
from neumann.runtime.node import Node
from neumann.server import admin


class Reply(NamedTuple):
    """An HTTP answer, read whole."""

    status: int
    body: Any
    headers: dict[str, str]


class Web:
    """Talks to one node as curl would."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        node: Node,
        server: admin.AdminServer | None = None,
    ) -> None:
        self.session = session
        self.url = url
        self.node = node
        self.server = server

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """One request; `body` is sent as JSON, or as it is if it is bytes or a file."""
        sent = (
            {"data": body} if isinstance(body, bytes | io.BytesIO) else {} if body is None else {"json": body}
        )
        async with self.session.request(method, self.url + path, **sent, **options) as response:
            readers = {"application/json": response.json, "application/octet-stream": response.read}
            read = await readers.get(response.content_type, response.text)()
            return Reply(response.status, read, {k.lower(): v for k, v in response.headers.items()})


@pytest.fixture
def node_config(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Config:
    """A node alone, with short timeouts and small limits."""
    rpc, http = free_ports(2)
    (tmp_path / "token").write_text("s3cret\n")
    return Config(
        node=NodeConfig(
            id="n1",
            data_dir=str(tmp_path / "n1"),
            listen=f"127.0.0.1:{rpc}",
            admin_listen=f"127.0.0.1:{http}",
        ),
        raft=RaftConfig(heartbeat_ms=10, election_timeout_ms=50),
        limits=LimitsConfig(key_bytes_max=64, value_bytes_max=4096, batch_rows_max=10),
        security=SecurityConfig(),
    )


@asynccontextmanager
async def serving(node_config: Config) -> AsyncIterator[Web]:
    """A node that serves, until the end of the block."""
    node = await Node.start(node_config, real_env(), bootstrap=True)
    server = await admin.serve(node, node_config)
    try:
        async with aiohttp.ClientSession() as session:
            client = Web(session, f"http://{node_config.node.admin_listen}", node, server)
            async with asyncio.timeout(10):
                while (await client.ask("GET", "/health")).status != 200:
                    await asyncio.sleep(0.01)
            yield client
    finally:
        await server.close()
        await node.stop()


@pytest.fixture
async def web(node_config: Config) -> AsyncIterator[Web]:
    """A serving node."""
    async with serving(node_config) as client:
        yield client
