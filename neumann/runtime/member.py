"""A node with a vote: log, core, store and machine joined, and what follows when they change.

`_join_*` says what there is and who hears of what; runtime/pump.py carries out what the core says, in the
order of durability. A failed write is final (R9): `fail` ends the member, and nothing is acknowledged any
more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from neumann.config import Config
from neumann.env import Env
from neumann.errors import DiskFull, NeumannError, NotLeader, Paused, StorageFailed, Unavailable
from neumann.format.command import Limits
from neumann.format.frame import FrameHeader
from neumann.format.ids import Configuration, Incarnation, LogPoint
from neumann.format.limits import FEATURE_LEVEL
from neumann.format.manifest import Manifest
from neumann.format.message import Message, SnapshotOffer, Status
from neumann.format.names import Paths
from neumann.format.special import Archived, Marker, Noop, Special
from neumann.format.state import SyncMark
from neumann.machine.state import MachineState
from neumann.raft.progress import heir
from neumann.runtime import divergence, leader_index
from neumann.runtime.applier import BACKLOG_HOLDS_PROPOSALS, Applier
from neumann.runtime.core import TICK_MS, make_core
from neumann.runtime.durability import Durability
from neumann.runtime.duties import Duties
from neumann.runtime.ending import Wholly, end_all
from neumann.runtime.marks import MarkKeeper
from neumann.runtime.membership import Membership
from neumann.runtime.metrics import Metrics
from neumann.runtime.opening import Opened
from neumann.runtime.peers import SILENT_TIMEOUTS, Peers
from neumann.runtime.proposer import Proposer
from neumann.runtime.pump import Pump
from neumann.runtime.reader import Reader
from neumann.runtime.repair import repair_of
from neumann.runtime.retaining import Retaining
from neumann.runtime.scrub import Scrub
from neumann.runtime.settled import Settled
from neumann.runtime.snapshots import Snapshots
from neumann.runtime.space import SpaceWatch
from neumann.runtime.stalls import Stalls
from neumann.runtime.superseded import Superseded
from neumann.store.checkpoint import Checkpointer

log = logging.getLogger(__name__)


class Member:
    """See the module. `serves()` is False until the formation guard has passed; `on_change` is called
    when role, leader or failure changed."""

    def __init__(
        self,
        env: Env,
        config: Config,
        paths: Paths,
        opened: Opened,
        metrics: Metrics,
        *,
        serves: Callable[[], bool],
        on_change: Callable[[], None],
        on_need_snapshot: Callable[[str, SnapshotOffer], None],
    ) -> None:
        self.env = env
        self.config = config
        self.paths = paths
        self.identity = opened.identity
        self.metrics = metrics
        self.failure: BaseException | None = None
        self.wal = opened.wal
        self.store = opened.store
        self.manifest = opened.manifest
        self.serves = serves
        self.archive_gate: Callable[[], NeumannError | None] = lambda: None
        self._on_change = on_change
        self._vote_file = opened.vote_file
        self._mark_file = opened.mark_file
        self._lane = env.lane("wal")
        self._io_lane = env.lane("io")
        self._read_lane = env.lane("read")
        self._send_lane = env.lane("send")
        self._mark_lane = env.lane("mark")
        self.space = SpaceWatch(env, paths.root, config.store.disk_free_bytes_min, self._io_lane, on_change)
        self._was_leader = False
        self._noop_index = 0
        self._leader_seen = ""
        self._stopped = False
        self._wholly = Wholly(self.fail)
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._join_consensus(opened)
        self._join_state(opened)
        self._join_snapshots(opened)
        parts = self.raft, self.durability, self.applier, self.store, self.space, self.peers
        self._stalls = Stalls(config, *parts)
        self._pump = Pump(
            self.raft,
            self.wal,
            self.durability,
            self.peers,
            self.proposer,
            self.applier,
            self.reader,
            on_persisted=self.snapshots.durable,
            on_role_changed=self._role_changed,
            on_diverged=self._diverged,
            on_need_snapshot=on_need_snapshot,
            on_failure=self.fail,
        )

    def _join_consensus(self, opened: Opened) -> None:
        """Core, log, peers: how entries come to be committed."""
        env, config = self.env, self.config
        self.raft = make_core(env, config, opened)
        self.settled = Settled(env.disk, self.wal, self.raft, self._lane)
        parts = self.raft, self.store, self.settled
        self.repair = repair_of(env, self.paths, self.metrics, *parts, lambda n: self.peers.silent_ns(n))  # noqa: PLW0108  made below
        self.proposer = Proposer(
            self.raft,
            env.clock,
            Limits(config.limits.key_bytes_max, config.limits.value_bytes_max, config.limits.batch_rows_max),
            self.metrics,
            unanswered_bytes_max=config.raft.proposal_bytes_max,
            gate=self.write_gate,
            hold=lambda: self.store.backlog >= BACKLOG_HOLDS_PROPOSALS,
            voters_clock_ns=lambda: self.peers.voters_clock_ns(config.raft.election_timeout_ms * 1_000_000),
            pump=self.pump,
            on_failure=self.fail,
            recall=lambda session, serial: (
                self.applier.state.sessions.answer(session, serial) if self.serves() else None
            ),
        )
        self.proposer.log_time_at_least(opened.last_time_ns)
        self.peers = Peers(
            self.identity,
            self.raft,
            self.wal,
            env.net,
            self._send_lane,
            self.repair,
            env.clock,
            self.metrics,
            own_status=self._status,
            step=self._step,
            silence_ns=SILENT_TIMEOUTS * config.raft.election_timeout_ms * 1_000_000,
        )
        self.membership = Membership(config, env.clock, self.raft, self.peers, self.proposer)
        self.marks = MarkKeeper(self._mark_file, opened.mark, self._mark_lane, self.fail)
        self.durability = Durability(
            self._lane,
            self.wal,
            opened.vote,
            self._vote_file,
            self.marks,
            env.clock,
            self.metrics,
            floor=lambda: self.raft.floor,
            send=self.peers.send,
            on_durable=lambda *durable: self._pump.durable(*durable),  # noqa: PLW0108  made below
            on_full=self._disk_full,
            on_failure=self.fail,
        )

    def _join_state(self, opened: Opened) -> None:
        """Machine and store: what committed entries do, and what reads see."""
        env, config = self.env, self.config
        self.lag = opened.lag
        self.lag.archived(self.wal.segments(), opened.manifest.archiving.through)
        self.applier = Applier(
            MachineState.from_manifest(opened.manifest),
            self.store,
            self.wal,
            self._read_lane,
            self.repair,
            self.proposer,
            env.clock,
            self.metrics,
            lag=opened.lag,
            unsealed_entries=opened.unsealed_entries,
            run_end=lambda after, bytes_max: self.raft.log.run_after(after, bytes_max, 4096).last_index,
            on_special=self._on_special,
            on_applied=self._on_applied,
            on_failure=self.fail,
        )
        self.reader = Reader(
            self.raft,
            self.store,
            self._read_lane,
            self.repair,
            env.clock,
            self.metrics,
            waiting_bytes_max=config.raft.proposal_bytes_max,
            applied_index=lambda: self.applier.applied_index,
            pump=self.pump,
            leads=lambda: self.raft.role == "leader" and self.serves(),
            ask_leader=lambda: leader_index.ask(env.net, self.leader_elsewhere, self.identity, config.raft),
            on_failure=self.fail,
        )

    def _join_snapshots(self, opened: Opened) -> None:
        """Snapshots, and what a leader does unasked."""
        env = self.env
        self.checkpointer = Checkpointer(
            env.disk,
            env.jobs,
            self._io_lane,
            self.store,
            self._snapshot_made,
            self.fail,
            pinned=lambda: self.snapshots.pinned(),  # noqa: PLW0108
            mend=self.repair.mend,
            on_merged=self.metrics.merged,
        )
        self.snapshots = Snapshots(
            env.disk,
            self.paths,
            self.store,
            self.wal,
            self.checkpointer,
            self._io_lane,
            env.clock,
            self.metrics,
            opened.manifest,
            opened.manifest_digest,
            opened.published,
            durable_index=lambda: self.raft.durable_index,
            settings=lambda: self.config.snapshot,
            on_done=self._snapshot_done,
            on_diverged=self._diverged,
            on_failure=self.fail,
        )
        self.retaining = Retaining(self, self._lane)
        self.superseded = Superseded(
            env,
            self.paths,
            self._io_lane,
            self.checkpointer,
            self.snapshots,
            self.retaining,
            is_paused=lambda: self.applier.state.pause is not None,
        )
        self.scrub = Scrub(self, is_urgent=bool(opened.unlisted) or not self.wal.oldest().is_whole)
        if opened.published is not None:
            self.raft.snapshot_published(opened.published.point)
        self.duties = Duties(
            lambda: self.config,
            env.clock,
            self.raft,
            self.wal,
            self.proposer,
            self.applier,
            self.peers,
            self.snapshots,
            self.checkpointer,
            self.membership,
            lambda: self.applier.state.archiving.on,
        )

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to tick."""
        await self.checkpointer.start()
        if self._stopped:  # by what it has received since
            return
        self._due_s = asyncio.get_running_loop().time()
        self._tick()
        self.space.start()
        self.scrub.start()

    async def hand_over(self) -> None:
        """A leader lets its heir take over, for an election timeout."""
        raft = self.raft
        if self._stopped or raft.role != "leader":
            return
        next_leader = heir(raft.progress, raft.configuration.voters)
        if not next_leader:
            return
        raft.transfer_to(next_leader)
        self.pump()
        for _ in range(self.config.raft.election_timeout_ms // TICK_MS):
            if raft.role != "leader" or self._stopped:
                break
            await asyncio.sleep(TICK_MS / 1000)

    async def stop(self) -> None:
        """An orderly end: the mark says that the log ends here, or StorageFailed; ended in any case."""
        if not self._stopped:
            self._halt(Unavailable("this node is stopping", remedy="try another node"))
        await end_all(
            *(part.stop for part in (self.durability, self.marks, self.scrub, self.repair)),
            self.checkpointer.close,
            *(lane.close for lane in (self._io_lane, self._read_lane, self._send_lane, self._mark_lane)),
            self._write_last_mark,
            *(held.close for held in (self._lane, self.wal, self._vote_file, self._mark_file)),
        )

    async def _write_last_mark(self) -> None:
        """The log is at its end only if nothing failed, and the lane has nothing to write any more."""
        if self.failure is None and self.durability.batch is None:
            synced = self.wal.synced
            place = SyncMark(synced.segment_first, synced.offset, *synced.point, 0, 0)
            await self._lane.run(partial(self._mark_file.write, self.marks.last(place)))

    def fail(self, error: BaseException) -> None:
        """End the member for a failure that it can't go on with (R9); the node says why."""
        if self.failure is not None or self._stopped:
            return
        text = f"the node stops: {error}"
        self.failure = error if isinstance(error, NeumannError) else StorageFailed(text)
        log.error("%s", text)
        self._halt(Unavailable(text, remedy="see the node's log"))
        self._on_change()

    def _halt(self, error: NeumannError) -> None:
        self._stopped = True
        self._pump.stop()
        self.space.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.applier.stop()
        self.snapshots.stop()
        self.checkpointer.stop()
        self.scrub.halt()
        self.proposer.stop(error)
        self.reader.stop(error)

    def _tick(self) -> None:
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self.metrics.loop_stall_seconds.observe(max(0.0, now_s - self._due_s))
        self._due_s = now_s + TICK_MS / 1000
        self._timer = loop.call_at(self._due_s, self._tick)
        with self._wholly:
            self.raft.tick()
            if why := self._stalls.tick():
                log.error("%s: another shall lead", why)
                self.raft.step_down(why)
            if self.leads:
                self.duties.look(ticked=True)
            self.pump()

    def pump(self) -> None:
        """The core was given something: carry out what it says."""
        self._pump.run()

    # --- what follows from it --------------------------------------------------------------------

    def _step(self, sender: str, message: Message, incarnation: Incarnation) -> None:
        """What the core does not bear ends the member; the network would only hang up for it."""
        if self._stopped:
            return
        with self._wholly:
            self.raft.step(sender, message, incarnation)
            self.pump()

    def _disk_full(self, error: DiskFull) -> None:
        """A leader steps down: it created frames that it can't write (R15)."""
        self.space.refusal = error
        if self.raft.role == "leader":
            log.error("%s", error)
            self.raft.step_down("its disk is full")
            self.pump()

    def _role_changed(self) -> None:
        leads = self.raft.role == "leader"
        if leads and not self._was_leader:
            log.info("leader of term %d behind index %d", self.raft.term, self.raft.last.index)
            self.duties.began()
            self._noop_index = self.proposer.propose_now(Noop())
        if self._was_leader and not leads:
            log.info("no longer leader: term is %d now", self.raft.term)
            self.proposer.lost_leadership(
                NotLeader("this node is not the leader any more", remedy="try again")
            )
        self._was_leader = leads
        if self.raft.leader != self._leader_seen:
            self._leader_seen = self.raft.leader
            self.metrics.leader_changes += 1
        self._on_change()

    def _on_special(self, header: FrameHeader, entry: Special | None) -> None:
        if isinstance(entry, Marker):
            if entry.snapshot:
                self.applier.rows_since_snapshot = self.applier.bytes_since_snapshot = 0
            self.snapshots.on_marker(header, entry, self.applier.state)
            if entry.seal:
                self._on_change()
        elif isinstance(entry, Configuration):
            self._on_change()
        elif isinstance(entry, Archived):
            self.lag.archived(self.wal.segments(), entry.through)
            self._on_change()

    def _on_applied(self, index: int) -> None:
        self.raft.applied(index)
        self.reader.applied(index)
        if self.leads:
            self.duties.look()

    def _snapshot_made(self, manifest: Manifest, digest: bytes, marker: Marker) -> None:
        """Writes go on at once: to publish it may wait for room, as long as nobody makes any."""
        self.snapshots.made(manifest, digest, marker)
        self.applier.wake()
        self.proposer.wake()

    def _snapshot_done(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.marks.manifest(manifest.point.index, manifest.point.term)
        if self.snapshots.published_index == manifest.point.index:
            self.raft.snapshot_published(manifest.point)
        self.retaining.drop()
        self._on_change()

    def _diverged(self, text: str) -> None:
        self.metrics.divergence += 1
        self.fail(divergence.note(self.env, self._io_lane, self.paths, text))

    # --- what others ask -------------------------------------------------------------------------

    def holds(self, point: LogPoint) -> bool:
        """Whether the log reaches `point`, a snapshot's: then it goes on by itself."""
        log = self.raft.log
        return log.base.index >= point.index or log.end_at(point.index) == point

    def address_of(self, node_id: str) -> str:
        """Where that node is reached: the configuration tells, and for one that it does not name, as a leader
        that a follower far behind has not read of yet, `peers` of the config. "" if neither does."""
        known = self.raft.configuration.member(node_id)
        return known.address if known is not None else self.config.node.peers.get(node_id, "")

    @property
    def leader_elsewhere(self) -> str:
        """The address of the leader that this node follows; "" if it knows none, or leads itself."""
        return self.address_of(self.raft.leader) if self.raft.role != "leader" else ""

    @property
    def leads(self) -> bool:
        """True for a leader that has committed and applied an entry of its own term, and so all that the
        leaders before it committed: what is judged by the state is judged by theirs."""
        raft = self.raft
        leads = not self._stopped and raft.role == "leader" and raft.own_term_committed
        leads = leads and self.applier.applied_index >= self._noop_index
        return leads and not raft.transferring and self.serves()

    def write_gate(self) -> NeumannError | None:
        """Why client writes are refused right now, or None."""
        if not self.serves():
            return Unavailable("the peers are being asked for other timelines", remedy="try again")
        if (pause := self.applier.state.pause) is not None:
            text = f"writes are paused by {pause.owner}: {pause.reason or 'no reason given'}"
            return Paused(text, remedy="neumann-admin resume-writes", detail={"until_ns": pause.until_ns})
        full = self.space.refusal or self.peers.without_room(self.config.store.disk_free_bytes_min)
        return full or self.archive_gate()

    def on_request(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        """A peer's message, from the network."""
        if not self._stopped:
            self.peers.on_request(payload, reply)

    def on_reply(self, address: str, payload: bytes) -> None:
        """A peer's answer, from the network."""
        if not self._stopped:
            self.peers.on_reply(address, payload)

    def _status(self) -> Status:
        index, digest = self.snapshots.newest
        return Status(
            self.durability.vote.start_number,
            self.env.clock.wall_ns(),
            self.space.free_bytes,
            FEATURE_LEVEL,
            index,
            digest,
            self.applier.applied_index,
            self.checkpointer.is_busy or self.snapshots.in_progress,
        )
