"""PySyncObj as a peer: a Raft library in Python, three processes of pysyncobj_node.py, all in memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.harness.load import Figures, Load, LoadFailed, Missing, figures_of
from bench.harness.stage import Stage
from tests.ports import free_ports
from tests.procedures.process import StartFailed, cpu_seconds

_READY_TIMEOUT_S = 30.0
_POLL_S = 0.1


def require_pysyncobj() -> None:
    """Missing if it isn't installed."""
    if importlib.util.find_spec("pysyncobj") is None:
        raise Missing("pysyncobj is not installed; install it with: pip install pysyncobj")


class PySyncObj:
    """What it is asked and what it answers are lines of JSON on its standard input and output."""

    name = "pysyncobj"

    def __init__(self, stage: Stage, root: Path) -> None:
        require_pysyncobj()
        root.mkdir(parents=True)
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self._log = root / "log"
        self._nodes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            for own in self._addresses:
                others = [address for address in self._addresses if address != own]
                command = [sys.executable, "-m", "bench.harness.pysyncobj_node", own, *others]
                pipe = subprocess.PIPE
                self._nodes.append(
                    subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, bufsize=1)
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self._nodes:
            node.kill()
        for node in self._nodes:
            node.communicate()

    def _ask(self, node: subprocess.Popen[str], order: dict[str, Any]) -> dict[str, Any]:
        assert node.stdin is not None and node.stdout is not None
        try:
            node.stdin.write(json.dumps(order) + "\n")
            line = node.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise LoadFailed(f"a node of PySyncObj ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def _leader(self) -> subprocess.Popen[str]:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            for node in self._nodes:
                if self._ask(node, {})["leads"]:
                    return node
            time.sleep(_POLL_S)
        raise StartFailed("PySyncObj has no leader")

    def _put(self, load: Load, **more: object) -> Figures:
        order = {**asdict(load), "outstanding": load.connections * load.outstanding, **more}
        return figures_of(self.name, self._ask(self._leader(), order))

    def fill(self, load: Load) -> None:
        self._put(load, kind="fill", seconds=0.0, warmup_s=0.0, seed=0)

    def drive(self, load: Load, stage: Stage, seed: int) -> Figures:
        assert load.kind == "put" and not load.rate, "pysyncobj_node.py knows a closed loop of puts only"
        return self._put(load, seconds=stage.seconds, warmup_s=stage.warmup_s, seed=seed)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(node.pid) for node in self._nodes)
