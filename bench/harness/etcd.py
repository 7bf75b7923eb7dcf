"""The peer to measure against: three etcd processes on loopback, as Debian ships them, with defaults."""

from __future__ import annotations

import http.client
import json
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.harness.load import Load, require, require_etcd_client
from bench.harness.side import Server
from bench.harness.stage import Stage
from tests.ports import free_ports
from tests.procedures.process import Process

_READY_TIMEOUT_S = 30.0


class Etcd(Server):
    """Missing where the packages are not installed."""

    name = "etcd"

    def __init__(self, stage: Stage, root: Path) -> None:
        require_etcd_client()
        binary = require("etcd", "etcd-server")
        ports = free_ports(6)
        self.client_ports = ports[:3]
        peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        members = ",".join(f"e{number}={url}" for number, url in enumerate(peers))
        self.processes: list[Process] = []
        self._commands: list[tuple[list[str | Path], Path]] = []
        for number, port in enumerate(self.client_ports):
            directory = root / f"e{number}"
            directory.mkdir(parents=True)
            client = f"http://127.0.0.1:{port}"
            flags = {
                "name": f"e{number}",
                "data-dir": str(directory / "data"),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peers[number],
                "initial-advertise-peer-urls": peers[number],
                "initial-cluster": members,
                "log-level": "error",
            }
            words = [word for name, value in flags.items() for word in (f"--{name}", value)]
            self._commands.append(([binary, *words], directory / "log"))
            self.processes.append(Process(f"e{number}", *self._commands[number]))

    def __enter__(self) -> Self:
        try:
            self._wait_healthy()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_healthy(self) -> None:
        for process, port in zip(self.processes, self.client_ports, strict=True):
            process.wait_until(lambda port=port: _is_healthy(port), _READY_TIMEOUT_S, "healthy")  # type: ignore[misc]

    def _stop(self) -> None:
        # Its clean stop takes seconds, and its data are thrown away.
        for process in self.processes:
            process.kill()

    def target(self, load: Load) -> tuple[str, str]:
        if load.http:
            return "etcd-http", ",".join(f"127.0.0.1:{port}" for port in self.client_ports)
        return "etcd", f"127.0.0.1:{self.client_ports[self.leader_number()]}"

    def leader_number(self) -> int:
        """Which one leads, when all are healthy."""
        self._wait_healthy()
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            for number, port in enumerate(self.client_ports):
                status = _ask(port, "POST", "/v3/maintenance/status", {})
                if status.get("leader", "0") == status.get("header", {}).get("member_id"):
                    return number
            time.sleep(0.1)
        raise TimeoutError("etcd has no leader")

    def kill(self, number: int) -> None:
        """SIGKILL, without waiting for its end."""
        self.processes[number].send(signal.SIGKILL)

    def start(self, number: int) -> None:
        """Start one that was killed."""
        self.processes[number].kill()
        self.processes[number] = Process(f"e{number}", *self._commands[number])

    def cpu_seconds(self) -> float:
        return sum(process.cpu_seconds() for process in self.processes)


def _is_healthy(port: int) -> bool:
    try:
        return bool(_ask(port, "GET", "/health").get("health") == "true")
    except OSError:
        return False


def _ask(port: int, method: str, path: str, body: object = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert isinstance(answer, dict)
    return answer
