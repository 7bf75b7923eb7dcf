"""What lives in a data directory: a node that waits, forms, joins, runs, and installs.

`start` takes the directory's lock, finishes an interrupted restore, and then either runs as a member or
waits, asking the peers, until it may form, adopt or join (runtime/startup.py decides). While it waits it
serves nothing and `decision` says why. An install ends the member, puts the new state in its place and
opens it again: everything that runs was opened from a disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from neumann.config import Config
from neumann.env import Env
from neumann.env.files import is_full
from neumann.errors import (
    Corrupt,
    DiskFull,
    FormatTooNew,
    NeumannError,
    NotFound,
    OutcomeUnknown,
    RefusedByState,
    StorageFailed,
    Unavailable,
)
from neumann.format.message import SnapshotOffer
from neumann.format.names import Paths
from neumann.recovery import swap
from neumann.runtime import leaving, opening, rejoin, repair
from neumann.runtime.archiving import LeaderArchiving
from neumann.runtime.ending import End, end_all
from neumann.runtime.formation import Formation
from neumann.runtime.guarding import Guard
from neumann.runtime.member import Member
from neumann.runtime.metrics import Metrics
from neumann.runtime.startup import Action, Answer, Decision, Found, decide, look
from neumann.runtime.usage import usage_of
from neumann.snapshot import install

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.25
_OPEN_AGAIN_S = 1.5  # each attempt to open a member is counted durably
_INSTALL_AGAIN_S = 1.0
_AUDIT_S = 60.0
_MAKE_ROOM = "make room; it goes on by itself"
_REJOIN_AGAIN = "make room; the node then joins as new, or runs as before: if it does, rejoin again"


class Host:
    """See the module. `start` once, `stop` once; `failed` is set when the member ended by itself."""

    def __init__(self, config: Config, env: Env, *, bootstrap: bool) -> None:
        self.config = config
        self.env = env
        self.paths = Paths(config.node.data_dir)
        self.metrics = Metrics()
        self.member: Member | None = None
        self.archiving: LeaderArchiving | None = None
        self.decision = Decision(Action.WAIT, "starting")
        self.found = Found()
        self.formation = Formation(env, config, self.paths, env.entropy.randrange(1 << 32))
        self.lane = env.lane("node")
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._bootstrap = bootstrap
        self._release: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._installing = False
        self._guard = Guard(
            self.formation,
            config.node.id,
            spawn=self.spawn,
            found_of=self._found_of,
            decide=self._decide,
            instead=self._wait_instead,
            on_passed=self._on_change,
        )
        self._asking = False
        self._had_no_room = False
        self._again_s = _ASK_AGAIN_S
        self._acting = asyncio.Lock()
        self._stopped = False

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Lock the directory and begin; NeumannError for what refuses to start, nothing changed."""
        self.env.net.bind(self)
        try:
            await self.lane.run(self._take_directory)
            await self._settle()
        except BaseException as error:
            await end_all(self.stop, failed=error)

    def _take_directory(self) -> None:
        disk = self.env.disk
        try:
            disk.make_dirs(self.paths.root)
            self._release = disk.lock(self.paths.lock)
            self.found = self._finish_and_look()
        except PermissionError as error:
            raise RefusedByState(
                f"{self.paths.root} can't be written: {error}",
                remedy="chown -R it to the user that runs neumann",
            ) from error
        except OSError as error:
            if not is_full(error):
                raise
            raise DiskFull(f"{self.paths.root}: no room on the disk: {error}", remedy="make room") from error

    def _finish_and_look(self) -> Found:
        finished = swap.finish_or_undo(self.env.disk, self.paths.root)
        if finished:
            log.warning("%s", finished)
        return look(self.env.disk, self.paths)

    async def _settle(self) -> None:
        """The first look: run at once where nobody needs to be asked, else ask in the background."""
        peers = self.formation.peers
        answers = await self.formation.ask() if peers else {}
        try:
            again = await self._act(answers)
        except (Unavailable, OutcomeUnknown) as error:
            log.info("not a member yet: %s", error)
            again = True
        if again:
            self._begin_asking()

    def _begin_asking(self) -> None:
        if not self._asking:
            self._asking = True
            self.spawn(self._ask_until_member())

    async def _ask_until_member(self) -> None:
        try:
            await self._ask_and_act()
        finally:
            self._asking = False

    async def _ask_and_act(self) -> None:
        again = True
        while again and not self._stopped:
            await asyncio.sleep(self._again_s)
            try:
                answers = await self.formation.ask()
                async with self._acting:
                    again = self.member is None and await self._act(answers)
            except (Unavailable, OutcomeUnknown) as error:
                self.decision = self.decision._replace(reason=str(error))
                log.info("not a member yet: %s", error)
                self.found = await self.lane.run(lambda: look(self.env.disk, self.paths))
            except NeumannError as error:
                self.fail(error)
                return

    async def rejoin(self) -> str:
        """Set this node's state aside and join as new; the aside id. RefusedByState where the cluster may
        need it (runtime/rejoin.py), NotFound where there is none. Goes on where the caller goes away: the
        member may be closed by then."""
        task = asyncio.get_running_loop().create_task(self._rejoin())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _rejoin(self) -> str:
        answers = await self.formation.ask_who_is_up()
        async with self._acting:
            found = self._found_of(self.member) if self.member is not None else self.found
            if not found.vote and found.data is None:
                raise NotFound("this node has no state", remedy="it joins by itself")
            refused = rejoin.refusal(found, self.config.node.id, answers, is_stopped=False)
            if refused is not None:
                raise refused
            if self._installing:
                raise Unavailable("a snapshot is being installed here", remedy="try again")
            if self._had_no_room:
                raise DiskFull(self.decision.reason, remedy=self.decision.remedy)
            await self._leave(rejoin.whom_to_ask(found, self.config.node.id, answers))
            return await self._set_aside()

    async def _leave(self, knows_leader: Answer | None) -> None:
        """Close the member, so that nobody can count on it any more, and then ask the leader again, which has
        the last word (runtime/leaving.py). Refused, it is opened again."""
        self.decision = Decision(Action.WAIT, "the leader is asked whether this node's state may go")
        member = self.member
        try:
            await self._close_member(hand_over=True)
            going = await self.lane.run(
                lambda: leaving.of_disk(self.env.disk, self.paths, self.config.node.id)
            )
            self.found = await self.lane.run(lambda: look(self.env.disk, self.paths))
        except (NeumannError, OSError) as error:
            raise self._left_without(error) from error
        if member is not None:
            going = going.at_least(member.durability.vote.start_number, member.raft.term)
        if knows_leader is not None:
            try:
                await leaving.ask(self.env.net, knows_leader.leader, knows_leader.leader_address, going)
            except BaseException:
                self._begin_asking()
                raise

    async def _set_aside(self) -> str:
        """Set the state of the closed member aside."""
        try:
            self.formation.renew()  # first: what is set aside may be seen by a later look only
            now_ns = self.env.clock.wall_ns()
            aside_id: str = await self.lane.run(
                lambda: swap.set_aside(self.env.disk, self.paths, "rejoin", now_ns)
            )
            self.found = await self.lane.run(lambda: look(self.env.disk, self.paths))
        except (NeumannError, OSError) as error:
            raise self._left_without(error) from error
        log.warning("set aside as %s/%s: this node joins as new", self.paths.aside, aside_id)
        self.decision = Decision(Action.WAIT, "its state was set aside, and it joins as new")
        self._begin_asking()
        return aside_id

    def _left_without(self, error: Exception) -> BaseException:
        """The member is closed, and its state did not go. DiskFull: what had begun is finished when there is
        room, or else the node runs again as it was. Another error, such as StorageFailed, ends the node."""
        if not is_full(error):
            failure = _as_ours(error)
            self.fail(failure)
            return failure
        self._wait_for_room(error)
        self._begin_asking()
        return DiskFull(self.decision.reason, remedy=_REJOIN_AGAIN)

    async def _act(self, answers: dict[str, Answer]) -> bool:
        """Do what the table says; True if the peers are to be asked again. A full disk is waited for."""
        self._again_s = _ASK_AGAIN_S
        try:
            if self._had_no_room:
                self.found = await self.lane.run(self._finish_and_look)
                self._had_no_room = False
            return await self._do_what_is_said(answers)
        except (DiskFull, OSError) as error:
            if not is_full(error):
                raise
            self._wait_for_room(error)
            return True

    def _wait_for_room(self, error: Exception) -> None:
        """What was begun may be half done: it is finished or undone before anything is decided again."""
        self._had_no_room, self._again_s = True, _OPEN_AGAIN_S
        decision = Decision(Action.WAIT, f"{self.paths.root}: no room on the disk: {error}", _MAKE_ROOM)
        if decision != self.decision:
            log.error("%s; %s", decision.reason, decision.remedy)
        self.decision = decision

    async def _do_what_is_said(self, answers: dict[str, Answer]) -> bool:
        found = self.found
        decision = self._decide(answers, found)
        if decision != self.decision:
            log.info("%s: %s", decision.action, decision.reason)
        self.decision = decision
        match decision.action:
            case Action.REFUSE:
                raise RefusedByState(decision.reason, remedy=decision.remedy)
            case Action.WAIT:
                return True
            case Action.RUN:
                return await self._run()
            case Action.FORM:
                if await self._still(decision):
                    await self.formation.form()
            case Action.ADOPT:
                if await self._still(decision):
                    await self.formation.adopt()
            case Action.JOIN:
                assert decision.leader is not None
                await self.formation.join(found, decision.leader)
            case Action.FINISH_RESTORE:
                raise AssertionError("finished when the directory was taken")
        self.found = await self.lane.run(lambda: look(self.env.disk, self.paths))
        return await self._run() if self.found.vote else True

    async def _still(self, decision: Decision) -> bool:
        """Ask again immediately before forming: the answers must be the same."""
        if not self.formation.peers:
            return True
        again = self._decide(await self.formation.ask(), self.found)
        return again.action is decision.action

    async def _run(self) -> bool:
        """Open the member; True if that is to be tried again. State that somebody put here, or a table that
        no peer could give yet, keeps the node up, serving nothing."""
        try:
            opened = await opening.open_or_mend(
                self.env, self.lane, self.paths, self.config, self.metrics, [*self.formation.peers.values()]
            )
        except (RefusedByState, NotFound) as error:
            self.decision = Decision(Action.WAIT, error.message, error.remedy)
            log.error("%s", error)
            return False
        except Corrupt as error:
            if not repair.is_of_table(self.paths, error) or not self.formation.peers:
                raise
            self.decision = Decision(Action.WAIT, error.message, repair.REMEDY)
            self._again_s = _OPEN_AGAIN_S
            return True
        for kind, outcome in opened.damage:
            self.metrics.damaged(kind, outcome)
        member = Member(
            self.env,
            self.config,
            self.paths,
            opened,
            self.metrics,
            serves=lambda: self._guard.has_passed,
            on_change=self._on_change,
            on_need_snapshot=self._on_need_snapshot,
        )
        self.archiving = LeaderArchiving(self.env, self.paths, member)
        self.member = member
        try:
            await member.start()
        except (NeumannError, OSError) as error:
            await end_all(partial(self._close_member, hand_over=False), failed=error)
        self.spawn(self._audit(member))
        self.spawn(self._guard.watch(member, lambda: self.member is member))
        return False

    async def stop(self) -> None:
        """An orderly end; a leader hands over first. All is closed, whatever part of it fails."""
        if self._stopped:
            return
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await end_all(
            partial(self._close_member, hand_over=True),
            self.formation.close,
            self.env.net.close,
            self.env.jobs.close,
            self.lane.close,
            self._leave_directory,
        )

    def _leave_directory(self) -> None:
        if self._release is not None:
            self._release()

    def take_config(self, config: Config) -> None:
        """See Node.take_config."""
        self.config = config
        if self.member is not None:
            self.member.config = config
            self._on_change()

    async def _close_member(self, *, hand_over: bool) -> None:
        member, archiving = self.member, self.archiving
        if member is None or archiving is None:
            return

        def forget() -> None:
            self.member = self.archiving = None

        first: tuple[End, ...] = (archiving.close, member.hand_over) if hand_over else (archiving.close,)
        await end_all(*first, forget, member.stop)

    def fail(self, error: BaseException) -> None:
        """This node can't go on; `failed` tells whoever runs it."""
        if not self.failed.done():
            self.failed.set_result(_as_ours(error))

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside; its failure is the node's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)
            self.fail(error)

    def _on_change(self) -> None:
        if self.member is not None and self.member.failure is not None:
            self.fail(self.member.failure)
        if self.archiving is not None:
            self.archiving.look()
        if self.member is not None:
            self._guard.look(self.member)

    async def _wait_instead(self, member: Member, decision: Decision) -> None:
        """Close the member for what the peers say, and ask them until it may run again."""
        async with self._acting:
            if self.member is not member or self._installing or member.failure is not None:
                return
            log.warning("not serving: %s; %s", decision.reason, decision.remedy)
            self.decision = decision
            await self._close_member(hand_over=False)
        self._begin_asking()

    def _found_of(self, member: Member) -> Found:
        raft = member.raft
        return self.found._replace(
            vote=True,
            sole_voter=raft.configuration.voters == (self.config.node.id,),
            history=member.manifest.history,
            members_index=raft.configuration_index,
        )

    def _decide(self, answers: dict[str, Answer], found: Found) -> Decision:
        peers = frozenset(self.formation.peers)
        return decide(found, self.config.node.id, peers, answers, bootstrap=self._bootstrap)

    async def _audit(self, member: Member) -> None:
        while self.member is member:
            await member.snapshots.audit()
            try:
                self.metrics.usage = await self.lane.run(partial(usage_of, self.env.disk, self.paths))
            except OSError as error:
                log.info("what lies beside the live state is counted the next time: %s", error)
            await asyncio.sleep(_AUDIT_S)

    # --- installing ------------------------------------------------------------------------------

    def _on_need_snapshot(self, leader: str, offer: SnapshotOffer) -> None:
        if not self._installing and not self._acting.locked() and self.member is not None:
            self._installing = True
            self.spawn(self._install(self.member, leader, offer))

    async def _install(self, member: Member, leader: str, offer: SnapshotOffer) -> None:
        """Fetch beside the running member, then end it, put the new state in place, and open it again. What
        the leader could not give is asked for again, whatever befell it there. One that has failed meanwhile
        stays as it is: what a replica that differs has is neither replaced nor opened again (R5)."""
        try:
            if not (address := member.address_of(leader)):
                return
            fetched = await install.fetch(self.env.net, address, offer, self.env.disk, self.lane, self.paths)
            point = fetched.manifest.point
            if member.failure is not None or member.holds(point):
                return
            await self._close_member(hand_over=False)
            if self.failed.done():  # as its archiving ended
                return
            # It acknowledged frames until it was closed: those behind the snapshot are kept.
            if not member.holds(point):
                segment_bytes = self.config.wal.segment_bytes_max
                await self.lane.run(lambda: install.place(self.env.disk, self.paths, fetched, segment_bytes))
                log.info("installed snapshot %s of %s", fetched.manifest.snapshot_id, leader)
            if await self._run():
                self._begin_asking()
        except (NeumannError, OSError) as error:
            if self.member is None:
                if not is_full(error):
                    raise
                self._wait_for_room(error)
                self._begin_asking()
                return
            if isinstance(error, FormatTooNew):
                raise
            log.warning("snapshot %d could not be fetched: %s", offer.index, error)
            await asyncio.sleep(_INSTALL_AGAIN_S)
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


def _as_ours(error: BaseException) -> BaseException:
    """A disk that failed, in the words of errors.py (R9)."""
    if not isinstance(error, OSError):
        return error
    return StorageFailed(f"the node stops: {error}", remedy="check the disk, then restart the node")
