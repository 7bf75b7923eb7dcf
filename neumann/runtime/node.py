"""The node: what servers, the embedded API and tests call. Any method works on any node.

runtime/host.py keeps the member; this is its face. What only a leader can do is done on the leader:
here, or over the network (runtime/leading.py finds it). Errors are the classes of errors.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from neumann.archive.archiver import Archiver
from neumann.config import Config
from neumann.env import Env
from neumann.errors import BadInput, NeumannError, NotLeader, OutcomeUnknown, Unavailable
from neumann.format import command
from neumann.query.statement import Params, QueryResult
from neumann.runtime import gauges, leader_index, leaving, missing, operations, tailing, transfer, views
from neumann.runtime.administration import MARGIN_S, administer
from neumann.runtime.ending import end_all
from neumann.runtime.forwards import Forwards
from neumann.runtime.host import Host
from neumann.runtime.leading import Leading
from neumann.runtime.leaving import Leaving
from neumann.runtime.member import Member
from neumann.runtime.queries import Queries
from neumann.runtime.restore_points import RestorePoints
from neumann.runtime.scans import ScanPage, Scans
from neumann.runtime.sinks import FutureSink, Sink, Version, as_version

_T = TypeVar("_T")

FORWARDED_WRITE = "leader.write"
_FORWARD_TIMEOUT_S = 10.0
_LEADER_WAIT_S = 5.0
_LOOK_AGAIN_S = 0.02


class Node:
    """See the module. Made by `start`, ended by `stop`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.config = host.config
        self.env = host.env
        self.paths = host.paths
        self.failed = host.failed
        self._leading = Leading(host)
        limit = host.config.raft.proposal_bytes_max
        self._forwards = Forwards(host.spawn, self._write_anywhere, limit)
        self._tail_lane = host.env.lane("tail")
        self._restore_points = RestorePoints(host.env)
        self.scans = Scans(host.env.lane("scan"), self._leading.member, self.barrier)
        self._queries = Queries(
            host.config.limits, host.env.clock, host.env.lane("query"), self._leading.member, self.barrier
        )

    @classmethod
    async def start(cls, config: Config, env: Env, *, bootstrap: bool = False) -> Node:
        """Begin; NeumannError for what refuses to start, nothing changed. It may wait: `serving`."""
        host = Host(config, env, bootstrap=bootstrap)
        await host.start()
        return cls(host)

    async def hand_over(self) -> None:
        """A leader lets another lead, while clients are still answered. To be called before `stop`."""
        if self.member is not None:
            await self.member.hand_over()

    def fail(self, error: Exception) -> None:
        """End for an error that nobody handled; `failed` tells."""
        if self.member is not None:
            self.member.fail(error)
        else:
            self.host.fail(error)

    async def stop(self) -> None:
        """An orderly end; a leader hands over first.

        StorageFailed if the disk failed at it: the node has ended, and holds nothing any more, all the same.
        """
        self._queries.give_up()
        parts = (self.scans, self._queries, self._tail_lane, self._restore_points)
        await end_all(self.host.stop, *(part.close for part in parts))

    def take_config(self, config: Config) -> None:
        """Go on with another configuration, which differs in keys that take effect on a reload."""
        self.config = config
        self.host.take_config(config)

    @property
    def member(self) -> Member | None:
        """The running member; None while the node waits."""
        return self.host.member

    def serving(self) -> tuple[bool, str, str]:
        """(serves, reason in one line, remedy)."""
        return self._leading.serving()

    def not_serving(self) -> NeumannError:
        """The error of a request that came while this node does not serve."""
        return self._leading.not_serving()

    # --- the network -----------------------------------------------------------------------------

    def on_message(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        """A peer's message, from the server."""
        self.host.on_message(payload, reply)

    async def call(self, method: str, params: Sequence[Any]) -> Any:
        """RPC methods other than the hot ones; BadInput for an unknown one or bad params."""
        disk, paths = self.env.disk, self.paths
        match method, params:
            case "who", ():
                return self.host.formation.who(self.host.found, self.member, self.serving()[0])
            case "announce", (str() as node_id, bytes() as storage_id, str() as address):
                member = self._leading.member()
                operations.needs_leader(member)
                return await member.membership.announce(node_id, storage_id, address)
            case "leave", (str() as node_id, bytes() as storage_id, int() as start_number, int() as term):
                going = Leaving(node_id, storage_id, start_number, term)
                return await leaving.answer(self._leading.member(), going)
            case "snapshot.describe", (str() as snapshot_id,):
                return await self._describe_snapshot(snapshot_id)
            case "snapshot.read", (str() as snapshot_id, str() as name, int() as offset, int() as length):
                return await self.host.lane.run(
                    partial(transfer.read_snapshot_file, disk, paths, snapshot_id, name, offset, length)
                )
            case "table.read", (str() as name, int() as offset, int() as length):
                return await self.host.lane.run(
                    partial(transfer.read_table, disk, paths, name, offset, length)
                )
            case "segment.read", (str() as name, int() as offset, int() as length):
                return await self.host.lane.run(
                    partial(transfer.read_segment, disk, paths, name, offset, length)
                )
            case "log.describe", ():
                return tailing.describe(self._leading.member())
            case "log.read", (
                bytes() as cluster_id,
                str() as timeline,
                int() as after,
                int() as chain,
                int() as bytes_max,
                int() | float() as wait_s,
            ):
                member = self._leading.member()
                return await tailing.read(
                    member, self._tail_lane, cluster_id, timeline, after, chain, bytes_max, wait_s
                )
            case "segment.find", (bytes() as cluster_id, str() as timeline, int() as index):
                return missing.find(self._leading.member(), cluster_id, timeline, index)
            case leader_index.METHOD, (bytes() as cluster_id, str() as timeline):
                member = self._leading.member()
                leader_index.check_asker(member.identity, cluster_id, timeline)
                return await member.reader.read_index()
            case "status", ():
                return await self.status()
            case "scan", (
                str() as table,
                str() as low,
                str() as high,
                str() as prefix,
                int() as limit,
                bool() as backwards,
                bool() as stale,
            ):
                page = await self.scans.page(table, low, high, prefix, limit, backwards, stale)
                return [[list(row) for row in page.rows], page.cursor]
            case "query", (
                str() as sql,
                tuple() | dict() as given,
                bool() as stale,
                None | int() as rows_max,
            ):
                return list(await self.query(sql, given, stale=stale, rows_max=rows_max))
            case "tables", (bool() as stale,):
                return await self.tables(stale)
            case str(), (dict() as asked,) if method.startswith("admin."):
                return await self._administer(method.removeprefix("admin."), dict(asked))
        raise BadInput(f"{method!r} with {len(params)} params is no method of this server")

    async def _describe_snapshot(self, snapshot_id: str) -> dict[str, Any]:
        member = self._leading.member()
        archiving = member.applier.state.archiving
        through = archiving.through if archiving.on else None
        history, segments = member.manifest.history, member.wal.segments()
        described: dict[str, Any] = await self.host.lane.run(
            partial(transfer.describe, self.env.disk, self.paths, history, snapshot_id, segments, through)
        )
        return described

    # --- data ------------------------------------------------------------------------------------

    def submit_writes(self, sink: Sink, ids: Sequence[int], commands: Sequence[bytes]) -> None:
        """The hot way: each id is answered through its sink. Forwarded where this node does not lead."""
        member = self.member
        if member is not None and member.raft.role == "leader":
            member.proposer.submit(sink, ids, commands)
        else:
            self._forwards.writes(sink, ids, commands)

    def submit_gets(self, sink: Sink, ids: Sequence[int], rows: Sequence[str], *, stale: bool) -> None:
        """The same for reads of single rows."""
        member = self.member
        if member is None:
            sink.failed(ids, self.not_serving())
            sink.flush()
        elif stale:
            member.reader.submit_stale(sink, ids, rows)
        else:
            member.reader.submit(sink, ids, rows)

    def submit_forwarded(self, sink: Sink, call_id: int, params: Sequence[Any]) -> None:
        """A write that another node sent because it takes this one for the leader. Never sent on: two nodes
        that each take the other for it would pass it to and fro until its time ends."""
        member = self.member
        match params:
            case _ if member is None or not member.leads:
                leader = member.raft.leader if member is not None else ""
                error = NotLeader("this node does not lead", remedy="try again", detail={"leader": leader})
                sink.failed((call_id,), error)
                sink.flush()
            case (bytes() as raw,):
                member.proposer.submit(sink, (call_id,), (raw,))
            case _:
                sink.failed((call_id,), BadInput("the params of a forwarded write are one bin, the command"))
                sink.flush()

    async def write(self, raw: bytes, timeout_s: float = _FORWARD_TIMEOUT_S) -> tuple[int, int]:
        """Commit one command: (index, Outcome). OutcomeUnknown when time runs out."""
        if self.member is not None and self.member.raft.role == "leader":
            return await self._write_anywhere(raw, timeout_s)
        cost = self._forwards.take(len(raw))
        try:
            return await self._write_anywhere(raw, timeout_s)
        finally:
            self._forwards.give_back(cost)

    async def _write_anywhere(self, raw: bytes, timeout_s: float = _FORWARD_TIMEOUT_S) -> tuple[int, int]:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._leading.run(
                    partial(self._write_here, raw), FORWARDED_WRITE, [raw], timeout_s
                )
                match answer:
                    case (int() as index, int() as outcome):
                        return index, outcome
                raise OutcomeUnknown(f"the leader answered a write with {answer!r:.80}")
        except TimeoutError:
            raise OutcomeUnknown(
                f"no answer within {timeout_s:g} s", remedy="read the row to see whether it was written"
            ) from None

    async def _write_here(self, raw: bytes, member: Member) -> tuple[int, int]:
        sink = FutureSink()
        member.proposer.submit(sink, (0,), (raw,))
        index, outcome = await sink.future
        return index, outcome

    async def get(self, table: str, key: str, stale: bool = False) -> Version | None:
        """(packed value, revision, time_ns) or None. Linearizable unless `stale` (R2)."""
        row = command.row_key(table, key)

        async def read(_: Member) -> Version | None:
            sink = FutureSink()
            self.submit_gets(sink, (0,), (row,), stale=stale)
            found: Version | None = await sink.future
            return found

        return as_version(await self._read(read, _FORWARD_TIMEOUT_S))

    async def scan(
        self,
        table: str,
        *,
        start: str = "",
        stop: str = "",
        prefix: str = "",
        limit: int = 1000,
        reverse: bool = False,
        stale: bool = False,
    ) -> ScanPage:
        """Rows of a table in the order of their keys, and a cursor for the next page ("" at the end)."""
        return await self.scans.page(table, start, stop, prefix, limit, reverse, stale)

    async def tables(self, stale: bool = False) -> list[str]:
        """Names of the tables that hold a row."""
        return await self.scans.tables(stale)

    async def query(
        self,
        sql: str,
        params: Params = (),
        *,
        stale: bool = False,
        rows_max: int | None = None,
        timeout_s: float | None = None,
    ) -> QueryResult:
        """One SQL statement over all tables at one index (query/); read here, after a barrier.

        `rows_max` and `timeout_s` can lower [limits] query_rows_max and query_timeout_s, not raise them.
        """
        return await self._queries.run(sql, params, stale, rows_max, timeout_s)

    async def barrier(self, timeout_s: float = _FORWARD_TIMEOUT_S) -> int:
        """This node's state is linearizable when it returns; the index that it holds."""

        async def pass_it(member: Member) -> int:
            return await member.reader.barrier()

        return await self._read(pass_it, timeout_s)

    async def _read(self, read: Callable[[Member], Awaitable[_T]], timeout_s: float) -> _T:
        """Read on this node; again where an install has put another member in the place of the asked one."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    member = self._leading.member()
                    try:
                        return await read(member)
                    except Unavailable:
                        if self.member is member:
                            raise
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise Unavailable("no leader could confirm this read in time", remedy="try again") from None

    # --- administration --------------------------------------------------------------------------

    async def snapshot(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """A snapshot published on a majority and on this node."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        made = await self._administer_anywhere("snapshot", {"timeout_s": timeout_s}, timeout_s)
        try:
            async with asyncio.timeout_at(deadline_s):
                while (member := self.member) is None or member.snapshots.newest[0] < made["index"]:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise OutcomeUnknown(
                f"snapshot {made['id']} is on {', '.join(made['durable_on'])} and not here after "
                f"{timeout_s:g} s; it goes on",
                remedy=f"look for {made['id']} in neumann-admin snapshot-list",
                detail={"id": made["id"]},
            ) from None
        is_here = member.snapshots.made_at(made["index"]) is not None
        if is_here and self.config.node.id not in made["durable_on"]:
            made["durable_on"] = sorted([*made["durable_on"], self.config.node.id])
        return made

    async def pause_writes(
        self, max_s: float = 600.0, reason: str = "", timeout_s: float = 30.0
    ) -> dict[str, Any]:
        """Pause client writes on the whole cluster."""
        asked = {"owner": self.config.node.id, "max_s": max_s, "reason": reason, "timeout_s": timeout_s}
        return await self._administer_anywhere("pause", asked, timeout_s)

    async def resume_writes(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """End the pause; RefusedByState if it had ended before."""
        return await self._administer_anywhere("resume", {"timeout_s": timeout_s}, timeout_s)

    async def restore_point(
        self, name: str, timeout_s: float = 30.0, *, wait: bool = False
    ) -> dict[str, Any]:
        """Name this moment in the log; `wait` until the archive has it, and say whether it has."""
        asked = {"name": name, "timeout_s": timeout_s, "wait": wait}
        return await self._administer_anywhere("restore_point", asked, timeout_s)

    async def restore_points(self) -> dict[str, Any]:
        """The restore points that this node's own log holds still, oldest first, and where that begins."""
        return await self._restore_points.find(self._leading.member())

    async def archive_flush(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Seal, and wait until the archive has everything written so far."""
        return await self._administer_anywhere("archive_flush", {"timeout_s": timeout_s}, timeout_s)

    async def archive_check(self, timeout_s: float = 60.0, *, begin: bool = False) -> dict[str, Any]:
        """Name a restore point and wait until the archive has it; `begin`: also where archiving is held."""
        asked = {"timeout_s": timeout_s, "begin": begin}
        return await self._administer_anywhere("archive_check", asked, timeout_s)

    async def archive_stop(self, reason: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """End archiving with a named break."""
        asked = {"reason": reason, "timeout_s": timeout_s}
        return await self._administer_anywhere("archive_stop", asked, timeout_s)

    async def members(self) -> dict[str, Any]:
        """member-list: who belongs to the cluster, as its leader knows it."""
        return await self._administer_anywhere("members", {}, 3.0)

    async def member_add(
        self, node_id: str, address: str, *, learner: bool = False, timeout_s: float = 30.0
    ) -> dict[str, Any]:
        """A node that may join; with `learner` it is not promoted by itself."""
        asked = {"id": node_id, "address": address, "learner": learner, "timeout_s": timeout_s}
        return await self._administer_anywhere("member_add", asked, timeout_s)

    async def member_promote(self, node_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """A learner becomes a voter."""
        asked = {"id": node_id, "timeout_s": timeout_s}
        return await self._administer_anywhere("member_promote", asked, timeout_s)

    async def member_remove(self, node_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """A member less, for good."""
        asked = {"id": node_id, "timeout_s": timeout_s}
        return await self._administer_anywhere("member_remove", asked, timeout_s)

    async def leader_transfer(self, to: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Another voter leads."""
        asked = {"to": to, "timeout_s": timeout_s}
        return await self._administer_anywhere("leader_transfer", asked, timeout_s)

    async def rejoin(self, data_dir: str = "") -> dict[str, Any]:
        """Set this node's own state aside, and join as new. `data_dir`: whose state is meant."""
        own = self.paths.root
        if data_dir and data_dir != own:
            raise BadInput(
                f"the data directory of this node is {own}, and not {data_dir}", remedy="--admin URL"
            )
        aside_id = await self.host.rejoin()
        return {"aside": aside_id, "path": f"{self.paths.aside}/{aside_id}"}

    async def status(self) -> dict[str, Any]:
        """cluster-status, from the leader where there is one."""
        try:
            return await self._administer_anywhere("status", {}, 3.0, leader_wait_s=0.5)
        except (Unavailable, OutcomeUnknown):
            if self.member is None:
                return {
                    "verdict": "DOWN",
                    "reason": self.host.decision.reason,
                    "remedy": self.host.decision.remedy,
                }
            _, reason, remedy = self.serving()
            return views.status(self.member) | {"verdict": "DOWN", "reason": reason, "remedy": remedy}

    async def cluster_info(self) -> dict[str, Any]:
        """cluster-info of this node; rows are counted."""
        member = self._leading.member()
        rows, _ = await self.scans.count()
        return views.cluster_info(member, rows)

    async def stats(self) -> dict[str, Any]:
        """Exact row count and content digest, with the index they hold for."""
        return await self.scans.stats()

    def scrub(self, *, begin: bool = False) -> dict[str, Any]:
        """The state of this node's scrub; `begin` a pass first, unless one is under way."""
        scrub = self._leading.member().scrub
        if begin:
            scrub.ask()
        return scrub.describe()

    def gauges(self) -> dict[str, Any]:
        """Plain numbers for /metrics."""
        serves, reason, _ = self.serving()
        numbers = gauges.of_node(self.host.metrics, serves, reason, self.env.clock.monotonic_ns())
        if self.member is not None and self.host.archiving is not None:
            numbers |= gauges.of_member(self.member)
            numbers |= gauges.of_archive(self.host.archiving.archiver, self.member)
            if self.scans.counted_rows is not None:
                numbers["total_entries"] = self.scans.counted_rows
        return numbers

    @property
    def applied_index(self) -> int:
        """The last index that this node's rows contain; 0 while it is no member."""
        return self.member.applier.applied_index if self.member is not None else 0

    async def _administer_anywhere(
        self, verb: str, asked: dict[str, Any], timeout_s: float, leader_wait_s: float = _LEADER_WAIT_S
    ) -> dict[str, Any]:
        async def here(_: Member) -> Any:
            return await self._administer(verb, asked)

        forward_s = timeout_s + 2 * MARGIN_S
        wait_s = min(leader_wait_s, timeout_s)
        answer = await self._leading.run(here, f"admin.{verb}", [asked], forward_s, wait_s)
        return dict(answer)

    async def _administer(self, verb: str, asked: dict[str, Any]) -> Any:
        return await administer(self._leading.member(), self._archiver(), verb, asked)

    def _archiver(self) -> Archiver:
        """It is there while the member is."""
        assert self.host.archiving is not None
        return self.host.archiving.archiver
