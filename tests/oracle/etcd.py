"""Builds and speaks to the etcd side (etcd/main.go). It needs Debian's Go and golang-etcd-server-dev."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "etcd"
CACHE = Path(__file__).parents[2] / ".cache" / "oracle"
GOPATH = Path("/usr/share/gocode")
BUILD_LIMIT_S = 240


def missing() -> str:
    """Why the oracle can't be built here, or ""."""
    if shutil.which("go") is None:
        return "Go is not installed (Debian: golang-go)"
    if not (GOPATH / "src/go.etcd.io/etcd/raft").is_dir():
        return "etcd's raft is not installed (Debian: golang-etcd-server-dev)"
    return ""


def build() -> Path:
    """The oracle's program, made anew only when its source has changed."""
    source = (HERE / "main.go").read_bytes()
    program = CACHE / f"etcd-{hashlib.sha256(source).hexdigest()[:16]}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        settings = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(CACHE / "go")}
        subprocess.run(
            ["go", "build", "-o", fresh, "."],
            cwd=HERE,
            env=os.environ | settings,
            check=True,
            timeout=BUILD_LIMIT_S,
        )
        fresh.replace(program)
    return program


class Etcd:
    """The running program. One schedule after the other is put to it whole."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What etcd's nodes are after each line."""
        assert self._process.stdin is not None and self._process.stdout is not None
        text = "\n".join([json.dumps(line) for line in lines] + ['{"reset": true}\n'])
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()
        answers = []
        for _ in lines:
            answer = self._process.stdout.readline()
            assert answer, "the oracle ended: its error output says why"
            answers.append(json.loads(answer))
        return answers

    def close(self) -> None:
        """End the program."""
        self._process.communicate(timeout=30)

    def __enter__(self) -> Etcd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
