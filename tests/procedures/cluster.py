"""A cluster of real `neumann` processes on loopback, driven as an operator drives it.

Each member has a directory of its own, `<root>/<id>/`, laid out as a machine is, with
etc/neumann/config.toml and var/lib/neumann; its output goes to `<root>/<id>/log`. Nothing here imports
the product: the server and `neumann-admin` are run as programs, and requests are plain HTTP. Used by the
drill, the procedure tests and the benchmarks.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.ports import free_ports
from tests.procedures.process import Process, StartFailed

READY_TIMEOUT_S = 60.0
_POLL_S = 0.05
BIN = Path(sys.executable).parent

Command = Sequence[str | Path]
Environ = Mapping[str, str]
Holds = Callable[[dict[str, Any]], bool]
"""A condition on what GET /admin/status answers."""

Sections = Mapping[str, Mapping[str, object]]
"""Config sections to keys to values, as in the config file."""


class Answer(NamedTuple):
    """What a node answered over HTTP; `body` is decoded JSON where it is JSON, else text."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


class CommandFailed(Exception):
    """A command of the procedure ended with another exit code than 0; the text is what it said."""


def run(command: Command, environ: Environ | None = None, timeout_s: float = 120) -> Ended:
    """Run to the end, with its output captured."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def must(command: Command, environ: Environ | None = None, timeout_s: float = 120) -> str:
    """The output of a command that has to succeed."""
    ended = run(command, environ, timeout_s)
    if ended.code:
        said = (ended.err or ended.out).strip()
        raise CommandFailed(f"`{' '.join(str(word) for word in command)}` ended with {ended.code}: {said}")
    return ended.out


class Member:
    """One node: where it lives, and its process while it runs."""

    def __init__(self, node_id: str, root: Path, host: str = "127.0.0.1") -> None:
        self.id = node_id
        self.directory = root / node_id
        self.data = self.directory / "var/lib/neumann"
        self.config = self.directory / "etc/neumann/config.toml"
        self.log = self.directory / "log"
        rpc_port, self.admin_port = free_ports(2)
        self.host = host
        self.address = f"{host}:{rpc_port}"
        self.admin_url = f"http://{host}:{self.admin_port}"
        self.process: Process | None = None
        """From its start until we end it; one that ended by itself stays, and is an error."""

    def write_config(self, peers: Mapping[str, str], sections: Sections) -> None:
        """Its config file, anew; `peers` are id -> address of all members."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        node = {
            "id": self.id,
            "data_dir": str(self.data),
            "listen": self.address,
            "admin_listen": self.admin_url.removeprefix("http://"),
            "peers": [f"{peer}={address}" for peer, address in peers.items()],
        }
        lines = []
        for section, keys in {**sections, "node": {**sections.get("node", {}), **node}}.items():
            # A JSON string, number, boolean or list of strings is the same in TOML.
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
        self.config.write_text("\n".join(lines))

    def start(self, *flags: str, launcher: Command = (BIN / "neumann",)) -> None:
        """Start the server; it may answer a little later (`wait_live`)."""
        assert not self.is_running(), f"{self.id} runs already"
        self.process = Process(self.id, [*launcher, "--config", self.config, *flags], self.log)

    def is_running(self) -> bool:
        return self.process is not None and self.process.exit_code() is None

    def stop(self) -> int:
        """A clean stop; its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        return process.stop()

    def kill(self) -> None:
        """As if its machine lost power, save for the page cache."""
        assert self.process is not None
        process, self.process = self.process, None
        process.kill()

    def request(self, method: str, path: str, body: object = None, timeout_s: float = 70.0) -> Answer:
        """One HTTP request; OSError where nothing answers."""
        connection = http.client.HTTPConnection(self.host, self.admin_port, timeout=timeout_s)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            raw = response.read()
        except http.client.HTTPException as error:  # it went away in the middle of an answer
            raise ConnectionError(f"{self.id}: {error!r}") from error
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return Answer(response.status, json.loads(raw) if is_json else raw.decode(), dict(response.headers))

    @property
    def environ(self) -> Environ:
        """What points `neumann-admin` at this member."""
        return {"NEUMANN_ADMIN": self.admin_url, "NEUMANN_CONFIG": str(self.config)}

    def admin(self, *words: str | Path, timeout_s: float = 120) -> Ended:
        """A `neumann-admin` verb on this member."""
        return run([BIN / "neumann-admin", *words], self.environ, timeout_s)

    def must_admin(self, *words: str | Path, timeout_s: float = 120) -> str:
        """The output of a `neumann-admin` verb that has to succeed."""
        return must([BIN / "neumann-admin", *words], self.environ, timeout_s)

    def serves(self, timeout_s: float = 5) -> bool:
        """Whether it answers requests for data now."""
        try:
            return self.request("GET", "/health", timeout_s=timeout_s).status == 200
        except OSError:
            return False

    def status(self, timeout_s: float = 5) -> dict[str, Any]:
        """GET /admin/status, or {} while it doesn't answer."""
        try:
            answer = self.request("GET", "/admin/status", timeout_s=timeout_s)
        except OSError:
            return {}
        return dict(answer.body) if answer.status == 200 else {}


class Cluster:
    """Members under one root. As a context manager it stops what still runs.

    `hosts` is id -> IP address of the members that do not listen on loopback.
    """

    def __init__(
        self,
        root: Path,
        ids: Sequence[str] = ("n1", "n2", "n3"),
        sections: Sections | None = None,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.members = [Member(node_id, root, (hosts or {}).get(node_id, "127.0.0.1")) for node_id in ids]
        peers = {member.id: member.address for member in self.members}
        for member in self.members:
            member.write_config(peers, sections or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, node_id: str) -> Member:
        return next(member for member in self.members if member.id == node_id)

    @property
    def contact(self) -> str:
        """What `neumann.connect` takes."""
        return ",".join(member.address for member in self.members)

    def start(self, *flags: str, launcher: Command = (BIN / "neumann",)) -> None:
        """Start every member that does not run, and wait until all serve."""
        for member in self.members:
            if not member.is_running():
                member.start(*flags, launcher=launcher)
        self.wait_serving()

    def wait_serving(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until every started member serves; StartFailed, with all logs, if one ends or does not."""
        started = [member for member in self.members if member.process is not None]
        deadline = time.monotonic() + timeout_s
        while not all(member.serves() for member in started):
            ended = [member.id for member in started if not member.is_running()]
            if ended or time.monotonic() > deadline:
                what = f"{', '.join(ended)} ended" if ended else f"not all serve within {timeout_s:g} s"
                logs = [f"--- {one.id}\n{one.process.log_tail()}" for one in started if one.process]
                raise StartFailed("\n".join([what, *logs]))
            time.sleep(_POLL_S)

    def wait_for(self, holds: Holds, what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until a running member's status fulfils `holds`; StartFailed says `what` did not happen."""
        deadline = time.monotonic() + timeout_s
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            for member in self.running():
                status = member.status()
                if status and holds(status):
                    return
            time.sleep(_POLL_S)
        raise StartFailed(f"{what}: not within {timeout_s:g} s; the last status was {json.dumps(status)}")

    def wait_voters(self, count: int, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until that many members are voters (the leader counts)."""

        def holds(status: dict[str, Any]) -> bool:
            return sum(member["role"] in ("leader", "voter") for member in status.get("members", ())) >= count

        self.wait_for(holds, f"{count} voters", timeout_s)

    def leader(self, timeout_s: float = READY_TIMEOUT_S) -> Member:
        """The running member that a running member says leads, itself included."""
        found: list[Member] = []

        def holds(status: dict[str, Any]) -> bool:
            found[:] = [member for member in self.running() if member.id == status.get("leader")]
            return bool(found)

        self.wait_for(holds, "a leader", timeout_s)
        return found[0]

    def running(self) -> list[Member]:
        return [member for member in self.members if member.is_running()]

    def stop(self) -> None:
        """Stop every running member cleanly, all at once."""
        started = [member for member in self.members if member.process is not None]
        for member in started:
            assert member.process is not None
            member.process.send_stop()
        for member in started:
            member.stop()
