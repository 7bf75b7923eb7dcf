"""The node: what servers, the embedded API and tests call. Any method works on any node.

Life: `start` takes the directory's lock, finishes an interrupted restore, and then either runs as a
member or waits, asking the peers, until it may form, adopt or join (runtime/startup.py decides). While
it waits it serves nothing and `serving` says why. Reads and writes on a follower are forwarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from neumann.config import Config
from neumann.env import Env
from neumann.errors import (
    BadInput,
    Corrupt,
    NeumannError,
    NotFound,
    NotLeader,
    OutcomeUnknown,
    RefusedByState,
    Unavailable,
)
from neumann.format import command
from neumann.format.message import SnapshotOffer
from neumann.format.names import Paths
from neumann.recovery import swap
from neumann.runtime import gauges, operations, transfer, views
from neumann.runtime.archiving import LeaderArchiving
from neumann.runtime.formation import Formation, take_in
from neumann.runtime.member import Member
from neumann.runtime.metrics import Metrics
from neumann.runtime.opening import open_member
from neumann.runtime.scans import ScanPage, Scans
from neumann.runtime.sinks import FutureSink, Sink, Version
from neumann.runtime.startup import Action, Answer, Decision, Found, decide, look
from neumann.snapshot import install, publish

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.25
_FORWARD_TIMEOUT_S = 10.0
_LEADER_WAIT_S = 5.0
_AUDIT_S = 60.0


class Node:
    """See the module. Made by `start`, ended by `stop`."""

    def __init__(self, config: Config, env: Env, paths: Paths, *, bootstrap: bool) -> None:
        self.config = config
        self.env = env
        self.paths = paths
        self.metrics = Metrics()
        self.member: Member | None = None
        self.archiving: LeaderArchiving | None = None
        self.decision = Decision(Action.WAIT, "starting")
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._bootstrap = bootstrap
        self._found = Found()
        self._release: Callable[[], None] | None = None
        self._formation = Formation(env, config, paths, env.entropy.randrange(1 << 32))
        self._lane = env.lane("node")
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._installing = False
        self._stopped = False
        self.scans = Scans(env.lane("scan"), self._member, self.barrier)

    # --- life ------------------------------------------------------------------------------------

    @classmethod
    async def start(cls, config: Config, env: Env, *, bootstrap: bool = False) -> Node:
        """Lock the directory and begin; NeumannError for what refuses to start, nothing changed."""
        paths = Paths(config.node.data_dir)
        node = cls(config, env, paths, bootstrap=bootstrap)
        env.net.bind(node)
        try:
            await node._lane.run(node._take_directory)
            await node._settle()
        except BaseException:
            await node.stop()
            raise
        return node

    def _take_directory(self) -> None:
        disk = self.env.disk
        try:
            disk.make_dirs(self.paths.root)
            self._release = disk.lock(self.paths.lock)
        except PermissionError as error:
            raise RefusedByState(
                f"{self.paths.root} can't be written: {error}",
                remedy="chown -R it to the user that runs neumann",
            ) from error
        finished = swap.finish_or_undo(disk, self.paths.root)
        if finished:
            log.warning("%s", finished)
        self._found = look(disk, self.paths)

    async def _settle(self) -> None:
        """The first look: run at once where nobody needs to be asked, else ask in the background."""
        peers = self._formation.peers
        answers = await self._formation.ask() if peers else {}
        if await self._act(answers):
            self._spawn(self._ask_until_member())

    async def _ask_until_member(self) -> None:
        again = True
        while again and not self._stopped:
            await asyncio.sleep(_ASK_AGAIN_S)
            try:
                again = await self._act(await self._formation.ask())
            except (Unavailable, OutcomeUnknown, RefusedByState) as error:
                self.decision = self.decision._replace(reason=str(error))
                log.info("not a member yet: %s", error)
                self._found = await self._lane.run(lambda: look(self.env.disk, self.paths))
            except NeumannError as error:
                self._fail(error)
                return

    async def _act(self, answers: dict[str, Answer]) -> bool:
        """Do what the table says; True if the peers are to be asked again."""
        found = self._found
        decision = decide(
            found,
            self.config.node.id,
            frozenset(self._formation.peers),
            answers,
            bootstrap=self._bootstrap,
        )
        if decision != self.decision:
            log.info("%s: %s", decision.action, decision.reason)
        self.decision = decision
        match decision.action:
            case Action.REFUSE:
                raise RefusedByState(decision.reason, remedy=decision.remedy)
            case Action.WAIT:
                return True
            case Action.RUN:
                await self._run()
                return False
            case Action.FORM:
                if await self._still(decision):
                    await self._formation.form()
            case Action.ADOPT:
                if await self._still(decision):
                    await self._formation.adopt()
            case Action.JOIN:
                assert decision.leader is not None
                await self._formation.join(found, decision.leader)
            case Action.FINISH_RESTORE:
                raise AssertionError("finished when the directory was taken")
        self._found = await self._lane.run(lambda: look(self.env.disk, self.paths))
        if self._found.vote:
            await self._run()
        return not self._found.vote

    async def _still(self, decision: Decision) -> bool:
        """Ask again immediately before forming: the answers must be the same."""
        if not self._formation.peers:
            return True
        answers = await self._formation.ask()
        peers = frozenset(self._formation.peers)
        again = decide(self._found, self.config.node.id, peers, answers, bootstrap=self._bootstrap)
        return again.action is decision.action

    async def _run(self) -> None:
        """Open the member. State that somebody put here keeps the node up, serving nothing."""
        try:
            opened = await self._lane.run(lambda: open_member(self.env.disk, self.paths, self.config))
        except (RefusedByState, NotFound) as error:
            self.decision = Decision(Action.WAIT, error.message, error.remedy)
            log.error("%s", error)
            return
        member = Member(
            self.env,
            self.config,
            self.paths,
            opened,
            self.metrics,
            on_change=self._on_change,
            on_need_snapshot=self._on_need_snapshot,
        )
        self.archiving = LeaderArchiving(self.env, self.paths, member)
        self.member = member
        await member.start()
        self._spawn(self._audit(member))

    async def stop(self) -> None:
        """An orderly end; a leader hands over first."""
        if self._stopped:
            return
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._close_member(hand_over=True)
        self._formation.close()
        self.scans.close()
        await self.env.net.close()
        await self.env.jobs.close()
        self._lane.close()
        if self._release is not None:
            self._release()

    async def _close_member(self, *, hand_over: bool) -> None:
        member, archiving = self.member, self.archiving
        if archiving is not None:
            await archiving.close()
        if member is not None:
            if hand_over:
                await member.hand_over()
            await member.stop()
        self.member = self.archiving = None

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)
        self._changed.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)
            self._fail(error)

    def _on_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        if self.member is not None and self.member.failure is not None:
            self._fail(self.member.failure)
        if self.archiving is not None:
            self.archiving.look()

    async def _audit(self, member: Member) -> None:
        """Link again what users deleted from the newest published snapshot (design section 5)."""
        while self.member is member:
            await asyncio.sleep(_AUDIT_S)
            manifest = member.manifest
            if member.snapshots.published_index == manifest.point.index:
                missing = await self._lane.run(
                    lambda: publish.audit(self.env.disk, self.paths, manifest)  # noqa: B023
                )
                if missing:
                    log.warning("%d files of snapshot %s were linked again", missing, manifest.snapshot_id)

    # --- installing ------------------------------------------------------------------------------

    def _on_need_snapshot(self, leader: str, offer: SnapshotOffer) -> None:
        if not self._installing and self.member is not None:
            self._installing = True
            self._spawn(self._install(self.member, leader, offer))

    async def _install(self, member: Member, leader: str, offer: SnapshotOffer) -> None:
        """Fetch beside the running member, then end it, put the new state in place, and open it again."""
        try:
            source = member.raft.configuration.member(leader)
            if source is None:
                return
            fetched = await install.fetch(
                self.env.net, source.address, offer, self.env.disk, self._lane, self.paths
            )
            await self._close_member(hand_over=False)
            segment_bytes = self.config.wal.segment_bytes_max
            await self._lane.run(lambda: install.place(self.env.disk, self.paths, fetched, segment_bytes))
            log.info("installed snapshot %s of %s", fetched.manifest.snapshot_id, leader)
            await self._run()
        except (Unavailable, OutcomeUnknown, NotFound, Corrupt) as error:
            if self.member is None:
                raise
            log.warning("snapshot %d could not be fetched: %s", offer.index, error)
        finally:
            self._installing = False

    # --- the network -----------------------------------------------------------------------------

    def on_message(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        """env.PeerHandler."""
        if self.member is not None:
            self.member.on_request(payload, reply)

    def on_reply(self, address: str, payload: bytes) -> None:
        """env.PeerHandler."""
        if self.member is not None:
            self.member.on_reply(address, payload)

    async def call(self, method: str, params: Sequence[Any]) -> Any:
        """RPC methods other than the hot ones; BadInput for an unknown one or bad params."""
        disk, paths = self.env.disk, self.paths
        match method, params:
            case "who", ():
                return self._formation.who(self._found, self.member, self.serving()[0])
            case "announce", (str() as node_id, bytes() as storage_id, str() as address):
                return await take_in(self._member(), self.config, node_id, storage_id, address)
            case "snapshot.describe", (str() as snapshot_id,):
                member = self._member()
                archiving = member.applier.state.archiving
                through = archiving.through if archiving.on else None
                segments = member.wal.segments()
                return await self._lane.run(
                    partial(transfer.describe, disk, paths, snapshot_id, segments, through)
                )
            case "snapshot.read", (str() as snapshot_id, str() as name, int() as offset, int() as length):
                return await self._lane.run(
                    partial(transfer.read_snapshot_file, disk, paths, snapshot_id, name, offset, length)
                )
            case "segment.read", (str() as name, int() as offset, int() as length):
                return await self._lane.run(partial(transfer.read_segment, disk, paths, name, offset, length))
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
            case "tables", (bool() as stale,):
                return await self.tables(stale)
            case str(), (dict() as asked,) if method.startswith("admin."):
                return await self._administer(method.removeprefix("admin."), dict(asked))
        raise BadInput(f"{method!r} with {len(params)} params is no method of this server")

    # --- data ------------------------------------------------------------------------------------

    def submit_writes(self, sink: Sink, ids: Sequence[int], commands: Sequence[bytes]) -> None:
        """The hot way: each id is answered through its sink. Forwarded where this node does not lead."""
        member = self.member
        if member is not None and member.raft.role == "leader":
            member.proposer.submit(sink, ids, commands)
        else:
            for call_id, raw in zip(ids, commands, strict=True):
                self._spawn(self._forward_write(sink, call_id, raw))

    def submit_gets(self, sink: Sink, ids: Sequence[int], rows: Sequence[str], *, stale: bool) -> None:
        """The same for reads of single rows."""
        member = self.member
        if member is None:
            sink.failed(ids, self.not_serving())
            sink.flush()
        elif stale:
            member.reader.submit_stale(sink, ids, rows)
        elif member.raft.role == "leader":
            member.reader.submit(sink, ids, rows)
        else:
            for call_id, row in zip(ids, rows, strict=True):
                self._spawn(self._forward_get(sink, call_id, row))

    async def _forward_write(self, sink: Sink, call_id: int, raw: bytes) -> None:
        try:
            index, outcome = await self.write(raw)
            sink.wrote([call_id], index, [outcome])
        except NeumannError as error:
            sink.failed([call_id], error)
        sink.flush()

    async def _forward_get(self, sink: Sink, call_id: int, row: str) -> None:
        try:
            table, key = command.split_row_key(row)
            sink.got([call_id], [await self.get(table, key)])
        except NeumannError as error:
            sink.failed([call_id], error)
        sink.flush()

    async def write(self, raw: bytes, timeout_s: float = _FORWARD_TIMEOUT_S) -> tuple[int, int]:
        """Commit one command: (index, Outcome). OutcomeUnknown when time runs out."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._on_leader(partial(self._write_here, raw), "write", [raw], timeout_s)
                return int(answer[0]), int(answer[1])
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
        if stale:
            sink = FutureSink()
            self.submit_gets(sink, (0,), (row,), stale=True)
            found = await sink.future
        else:
            try:
                async with asyncio.timeout(_FORWARD_TIMEOUT_S):
                    found = await self._on_leader(
                        partial(self._get_here, row),
                        "get",
                        [table, key, False],
                        _FORWARD_TIMEOUT_S,
                        repeatable=True,
                    )
            except TimeoutError:
                raise Unavailable("no leader could confirm this read in time", remedy="try again") from None
        return None if found is None or found[0] is None else (found[0], found[1], found[2])

    async def _get_here(self, row: str, member: Member) -> Version | None:
        sink = FutureSink()
        member.reader.submit(sink, (0,), (row,))
        found: Version | None = await sink.future
        return found

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

    async def barrier(self, timeout_s: float = _FORWARD_TIMEOUT_S) -> int:
        """This node's state is linearizable when it returns; the index that it holds."""

        async def here(member: Member) -> int:
            return await member.reader.barrier()

        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._on_leader(here, "admin.barrier", [{}], timeout_s, repeatable=True)
                index = int(answer)
                while (member := self._member()).applier.applied_index < index:
                    await asyncio.sleep(0.002)
                return member.applier.applied_index
        except TimeoutError:
            raise Unavailable("no leader could confirm this read in time", remedy="try again") from None

    # --- administration --------------------------------------------------------------------------

    async def snapshot(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """A snapshot published on a majority and on this node."""
        made = await self._administer_anywhere("snapshot", {"timeout_s": timeout_s}, timeout_s)
        member = self._member()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while member.snapshots.newest[0] < made["index"] and self.member is member:
                    await asyncio.sleep(0.01)
        if self.config.node.id not in made["durable_on"]:
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
        return await self._administer_anywhere("resume", {}, timeout_s)

    async def restore_point(self, name: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Name this moment in the log."""
        return await self._administer_anywhere("restore_point", {"name": name}, timeout_s)

    async def archive_flush(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Seal, and wait until the archive has everything written so far."""
        return await self._administer_anywhere("archive_flush", {"timeout_s": timeout_s}, timeout_s)

    async def status(self) -> dict[str, Any]:
        """cluster-status, from the leader where there is one."""
        try:
            return await self._administer_anywhere("status", {}, 3.0, leader_wait_s=0.5)
        except (Unavailable, OutcomeUnknown):
            if self.member is None:
                return {"verdict": "DOWN", "reason": self.decision.reason, "remedy": self.decision.remedy}
            return views.status(self.member) | {"verdict": "DOWN", "reason": self.serving()[1]}

    async def cluster_info(self) -> dict[str, Any]:
        """cluster-info of this node; rows are counted."""
        member = self._member()
        rows, _ = await self.scans.count()
        return views.cluster_info(member, rows)

    async def stats(self) -> dict[str, Any]:
        """Exact row count and content digest, with the index they hold for."""
        return await self.scans.stats()

    def gauges(self) -> dict[str, Any]:
        """Plain numbers for /metrics."""
        serves, reason, _ = self.serving()
        numbers = gauges.of_node(self.metrics, serves, reason)
        if self.member is not None and self.archiving is not None:
            numbers |= gauges.of_member(self.member)
            numbers |= gauges.of_archive(self.archiving.archiver, self.member)
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

        answer = await self._on_leader(here, f"admin.{verb}", [asked], timeout_s + 5.0, leader_wait_s)
        return dict(answer)

    async def _administer(self, verb: str, asked: dict[str, Any]) -> Any:
        """One operation, on this node, which must lead."""
        member = self._member()
        timeout_s = float(asked.get("timeout_s", 30.0))
        match verb:
            case "snapshot":
                return await operations.snapshot(member, timeout_s)
            case "pause":
                owner, reason = str(asked["owner"]), str(asked["reason"])
                return await operations.pause_writes(member, owner, float(asked["max_s"]), reason, timeout_s)
            case "resume":
                return await operations.resume_writes(member)
            case "restore_point":
                return await operations.restore_point(member, str(asked["name"]))
            case "archive_flush":
                return await operations.archive_flush(member, timeout_s)
            case "status":
                assert self.archiving is not None
                return views.status(member) | {"archive": views.archive(member, self.archiving.archiver)}
            case "barrier":
                return await member.reader.barrier()
        raise BadInput(f"admin.{verb} is no method of this server")

    # --- where the leader is ---------------------------------------------------------------------

    def serving(self) -> tuple[bool, str, str]:
        """(serves, reason in one line, remedy)."""
        member = self.member
        if member is None:
            return False, self.decision.reason, self.decision.remedy
        if member.failure is not None:
            return False, str(member.failure), "see the node's log"
        if not member.raft.leader:
            return False, "no leader", "is a majority of the voters up and connected?"
        return True, "", ""

    def _member(self) -> Member:
        if self.member is None:
            raise self.not_serving()
        return self.member

    def not_serving(self) -> NeumannError:
        """The error of a request that came while this node has no member."""
        _, reason, remedy = self.serving()
        return Unavailable(f"this node does not serve: {reason}", remedy=remedy)

    async def _on_leader(
        self,
        here: Callable[[Member], Any],
        method: str,
        params: list[object],
        timeout_s: float,
        leader_wait_s: float = _LEADER_WAIT_S,
        *,
        repeatable: bool = False,
    ) -> Any:
        """Run it here if this node leads, else on the leader; wait a little for one to be found.

        `repeatable`: it changes nothing, so it is asked again also when its answer was lost.
        """
        deadline = asyncio.get_running_loop().time() + leader_wait_s
        while True:
            member = self._member()
            if member.failure is not None:
                raise self.not_serving()
            if member.leads:
                try:
                    return await here(member)
                except NotLeader:
                    pass
            elif member.raft.role != "leader" and member.raft.leader:
                leader = member.raft.configuration.member(member.raft.leader)
                if leader is not None:
                    try:
                        return await self.env.net.call(leader.address, method, params, timeout_s)
                    except Unavailable as error:
                        if not isinstance(error, NotLeader) and error.code != "unavailable":
                            raise
                    except OutcomeUnknown:
                        if not repeatable:
                            raise
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable("no leader", remedy="is a majority of the voters up and connected?")
            await asyncio.sleep(0.02)
