"""What the procedures share: the cluster, its users, the record, the backup host; and the check."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neumann.cli import progress
from tests.procedures.cluster import BIN, Cluster, Member, must
from tests.procedures.drill.cities import cities
from tests.procedures.drill.record import Record, Rows, State, Write
from tests.procedures.drill.traffic import Traffic

ARCHIVE_TIMEOUT_S = 2
_DIFFERENCES_SHOWN = 3


class Wrong(Exception):
    """The product said or did something else than the record allows; the text says what."""


@dataclass(slots=True)
class Row:
    """A procedure's line in the table. `problem` is empty if all of it is right."""

    procedure: str
    recovered_to: str = ""
    rows_expected: int = 0
    rows_found: int = 0
    digest_match: bool = False
    rpo_seconds: float = 0.0
    rto_seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Backup:
    """A full backup: where it is, what it must bring back, and what the product said it holds."""

    path: Path
    state: State


class Stage:
    """One run of the drill. Directories: site-a/ (the cluster), backup/ (the other host), and others."""

    def __init__(self, root: Path, row_count: int) -> None:
        self.root = root
        self.backup = root / "backup"
        self.archive = self.backup / "wal"
        self.snapshots = self.backup / "snapshots"
        for directory in (self.archive, self.snapshots):
            directory.mkdir(parents=True)
        self.record = Record(root / "record.jsonl")
        self.cold_backup: Backup | None = None
        self.hot_backup: Backup | None = None
        self._row_count = row_count
        self._began = time.monotonic()
        wal = {
            "archive_command": f"cp %p {shlex.quote(str(self.archive))}/%f",
            "archive_timeout": ARCHIVE_TIMEOUT_S,
        }
        self.sections = {"wal": wal}
        self.cluster = Cluster(root / "site-a", sections=self.sections)
        self.traffic: Traffic | None = None

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", file=sys.stderr, flush=True)

    def begin(self) -> None:
        """Three nodes, formed by --bootstrap, and the cities in them."""
        self.say("three nodes start on loopback")
        self.cluster.start("--bootstrap")
        self.cluster.wait_voters(3)
        self.connect()
        rows = cities(self._row_count)
        self.say(f"{len(rows):,} cities are written through the public client")
        began = time.monotonic()
        with progress.bar("loading", quiet=False) as advance:
            self.users.load(rows, advance)
        self.say(f"all acknowledged, {len(rows) / (time.monotonic() - began):,.0f} rows a second")

    @property
    def users(self) -> Traffic:
        assert self.traffic is not None, "nobody is connected"
        return self.traffic

    def connect(self) -> None:
        """Users of the cluster as it is now."""
        self.disconnect()
        self.traffic = Traffic(self.cluster.contact, self.record)

    def came_back(self, state: State) -> None:
        """The cluster was restored to `state`; its users go on from there."""
        self.record.restored(state)
        self.connect()

    def disconnect(self) -> None:
        if self.traffic is not None:
            self.traffic.close()
            self.traffic = None

    def end(self) -> None:
        """Stop what we started."""
        self.disconnect()
        self.cluster.stop()
        self.record.close()

    def follower(self) -> Member:
        """A member that does not lead: what works there works on any node."""
        leader = self.cluster.leader()
        return next(member for member in self.cluster.members if member is not leader)

    def destroy(self) -> Write:
        """All nodes die at once and their data directories are gone. The last acknowledged write."""
        self.disconnect()
        for member in self.cluster.running():
            member.kill()
        for member in self.cluster.members:
            must(["rm", "-rf", member.data])
            must(["mkdir", member.data])
        return self.record.last()

    @contextlib.contextmanager
    def restoring(self, row: Row) -> Iterator[None]:
        """The commands inside bring a lost state back; their time is the procedure's RTO."""
        began = time.monotonic()
        yield
        row.rto_seconds = time.monotonic() - began

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[Cluster]:
        """A machine beside the cluster, where a backup is brought back to be looked at."""
        with Cluster(self.root / "alone", ids=(name,)) as place:
            yield place

    def check(self, row: Row, expected: State, members: Sequence[Member], lost: Write) -> None:
        """Compare every row on the running cluster of `members` with `expected`; fills `row`.

        Then the runbook's own verification, on every member.
        """
        contact = ",".join(member.address for member in members)
        reader = Traffic(contact, self.record)
        try:
            found = reader.rows()
        finally:
            reader.close()
        digest = expected.digest()
        said = [json.loads(member.must_admin("stats", "--format", "json")) for member in members]
        row.recovered_to = f"{expected.last.index} {_moment(expected.last.acked_ns)}"
        row.rows_expected, row.rows_found = len(expected.rows), len(found)
        row.digest_match = all(one["content_digest"] == digest for one in said)
        row.rpo_seconds = (lost.acked_ns - expected.last.acked_ns) / 1e9
        if wrong := differences(expected.rows, found):
            raise Wrong(f"{wrong[0]} rows differ, such as {'; '.join(wrong[1])}")
        if not row.digest_match:
            raise Wrong(f"content digest {digest} expected, the nodes say {said}")
        for member in members:
            member.must_admin("verify-checksums")
            counted = must(["sh", "-c", f"'{BIN}/neumann-admin' stats | grep total_entries"], member.environ)
            if counted.split() != ["total_entries", str(len(expected.rows))]:
                raise Wrong(f"{len(expected.rows)} rows expected, `stats` of {member.id} says {counted}")


def differences(expected: Rows, found: Rows) -> tuple[int, list[str]] | None:
    """How many rows differ, and the first of them in words; None if none."""
    wrong = sorted(row for row in expected.keys() | found.keys() if expected.get(row) != found.get(row))
    if not wrong:
        return None
    shown = [
        f"{'/'.join(row)}: expected {expected.get(row)}, found {found.get(row)}"
        for row in wrong[:_DIFFERENCES_SHOWN]
    ]
    return len(wrong), shown


def _moment(ns: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(ns // 10**9)) + f".{ns // 10**6 % 1000:03d}Z"
