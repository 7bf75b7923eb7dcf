"""The way from no vote to a member: asking the peers, forming, adopting, joining (design section 6).

Nobody joins or forms by guessing: `startup.decide` says what to do, this module asks and acts. The vote
record is the last thing that is written, so a crash on the way leaves a node without a vote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from neumann.config import Config
from neumann.env import Env
from neumann.errors import FormatTooNew, NeumannError, Unavailable
from neumann.format import history as history_format
from neumann.format import names
from neumann.format.history import History
from neumann.format.ids import ID_BYTES, Timeline
from neumann.format.names import Paths
from neumann.recovery import adopt, formation, swap
from neumann.runtime.member import Member as RunningMember
from neumann.runtime.startup import Answer, Data, Found
from neumann.snapshot import install

log = logging.getLogger(__name__)

_ASK_TIMEOUT_S = 1.0
_LAST_HEARD_S = 1.25  # a leader counts who was heard within a second as up (membership.py)
_ANNOUNCE_TIMEOUT_S = 10.0


class Formation:
    """What one node needs to form or join; used while it has no running member, and to answer `who`."""

    def __init__(self, env: Env, config: Config, paths: Paths, start_number: int) -> None:
        self._env = env
        self._config = config
        self._paths = paths
        self._start_number = start_number
        self._lane = env.lane("formation")
        self._storage_id = env.entropy.token(ID_BYTES)

    def renew(self) -> None:
        """What this directory was is set aside: whoever joins from here is another storage."""
        self._storage_id = self._env.entropy.token(ID_BYTES)

    @property
    def peers(self) -> Mapping[str, str]:
        """Node id -> address of the other configured nodes."""
        own = self._config.node
        return {node_id: address for node_id, address in own.peers.items() if node_id != own.id}

    # --- asking and answering --------------------------------------------------------------------

    async def ask(self) -> dict[str, Answer]:
        """What each configured peer says of itself; who does not answer in time is not in it."""
        peers = self.peers
        answers = await asyncio.gather(*(self._ask_one(n, a) for n, a in sorted(peers.items())))
        return {node_id: answer for node_id, answer in zip(sorted(peers), answers, strict=True) if answer}

    async def ask_who_is_up(self) -> dict[str, Answer]:
        """As `ask`, but no leader counts a member in its `spares` that was silent before this call."""
        await asyncio.sleep(_LAST_HEARD_S)
        return await self.ask()

    async def _ask_one(self, node_id: str, address: str) -> Answer | None:
        try:
            said = await self._env.net.call(address, "who", [], _ASK_TIMEOUT_S)
            answer = _read_answer(said, self._config.node.id)
        except NeumannError:
            return None
        except (LookupError, TypeError, ValueError) as error:
            log.warning("%s at %s gave an answer that can't be read: %r", node_id, address, error)
            return None
        if answer.node_id != node_id:
            log.warning("%s answers where %s is configured (%s)", answer.node_id, node_id, address)
            return None
        return answer

    def who(self, found: Found, member: RunningMember | None, serves: bool) -> dict[str, Any]:
        """This node's own answer."""
        own = self._config.node
        leader = member.raft.leader if member is not None and member.failure is None else ""
        history = member.manifest.history if member is not None else found.history
        sole = found.sole_voter
        if member is not None:
            sole = member.raft.configuration.voters == (own.id,)
        data = found.data
        return {
            "node_id": own.id,
            "start": self._start_number,
            "vote": member is not None or found.vote,
            "cluster_id": history.cluster_id if history is not None else b"",
            "history": history_format.encode(history) if history is not None else b"",
            "leader": leader,
            "leader_address": self._leader_address(member),
            "serves": serves,
            "sole_voter": sole,
            "data": [str(data.timeline), data.index, data.digest, data.time_ns] if data else None,
            "peers": dict(own.peers) | {own.id: own.advertise},
            "members": self._members(member),
            "spares": member.membership.spares() if member is not None and member.leads else [],
        }

    @staticmethod
    def _members(member: RunningMember | None) -> list[Any] | None:
        """[index of the committed configuration, node ids]; None while a change is on its way."""
        if member is None or member.raft.configuration_index > member.raft.commit_index:
            return None
        raft = member.raft
        return [raft.configuration_index, [m.node_id for m in raft.configuration.members]]

    def _leader_address(self, member: RunningMember | None) -> str:
        return member.address_of(member.raft.leader) if member is not None else ""

    # --- forming and adopting --------------------------------------------------------------------

    async def form(self) -> None:
        """Create a new, empty cluster with this node as sole voter."""
        env, own = self._env, self._config.node
        manifest = formation.empty_base(
            own.id,
            own.advertise,
            self._storage_id,
            env.clock.wall_ns(),
            env.entropy.token(ID_BYTES),
            int.from_bytes(env.entropy.token(8), "big"),
            self._config.store.block_bytes,
        )

        await self._lane.run(
            lambda: formation.write_member(
                env.disk,
                self._paths,
                manifest,
                own.id,
                self._storage_id,
                self._config.wal.segment_bytes_max,
                0,
            )
        )
        log.info("created a NEW, EMPTY cluster %s", manifest.history.cluster_id.hex())

    async def adopt(self) -> None:
        """Go on with the data that lie here, as a new timeline and sole voter."""
        own = self._config.node
        adopted = await self._lane.run(
            lambda: adopt.adopt(
                self._env.disk,
                self._paths,
                node_id=own.id,
                address=own.advertise,
                clock=self._env.clock,
                entropy=self._env.entropy,
                segment_bytes=self._config.wal.segment_bytes_max,
                reason="bootstrap: every configured node held the same data",
            )
        )
        log.info("%s", adopted)

    # --- joining ---------------------------------------------------------------------------------

    async def join(self, found: Found, leader: Answer) -> None:
        """Announce this node, fetch the newest snapshot, become a learner. Unavailable: try again later."""
        assert leader.history is not None and leader.leader_address
        term = await self._announce(leader)
        lies_here = found.data is not None or found.unreadable
        reuse = await self._lane.run(self._set_data_aside) if lies_here else []
        fetched = await self._fetch(leader, reuse)
        await self._lane.run(lambda: self._settle(fetched, term))
        log.info("joined %s as a learner behind %d", leader.leader, fetched.manifest.point.index)

    async def _announce(self, leader: Answer) -> int:
        """The leader's term, once this node is in its configuration."""
        own = self._config.node
        asked: list[object] = [own.id, self._storage_id, own.advertise]
        try:
            said = await self._env.net.call(leader.leader_address, "announce", asked, _ANNOUNCE_TIMEOUT_S)
        except NeumannError as error:
            raise Unavailable(f"{leader.leader} could not take this node in: {error}") from error
        match said:
            case {"accepted": True, "term": int() as term}:
                return term
            case {"accepted": False, "text": str() as text}:
                raise Unavailable(f"{leader.leader} does not take this node in: {text}")
        raise Unavailable(f"{leader.leader} gave an answer to announce that can't be read")

    async def _fetch(self, leader: Answer, reuse: Sequence[str]) -> install.Fetched:
        """The leader's newest snapshot. One that was pruned meanwhile, that can't be read there, or a full
        disk, is waited out."""
        try:
            fetched = await install.fetch(
                self._env.net,
                leader.leader_address,
                None,
                self._env.disk,
                self._lane,
                self._paths,
                reuse=reuse,
            )
        except FormatTooNew:
            raise
        except (NeumannError, OSError) as error:
            raise Unavailable(f"the snapshot of {leader.leader} could not be fetched: {error}") from error
        if fetched.manifest.history != leader.history:
            raise Unavailable(f"{leader.leader} gave a snapshot of another history than its own")
        return fetched

    def _set_data_aside(self) -> list[str]:
        """What lies here goes to aside/; the directories whose tables may be used again."""
        aside_id = swap.set_aside(self._env.disk, self._paths, "join", self._env.clock.wall_ns())
        old = f"{self._paths.aside}/{aside_id}"
        snapshots = f"{old}/{names.RAFT}/{names.SNAPSHOTS}"
        published = [f"{snapshots}/{name}" for name in self._env.disk.list(snapshots)]
        return [f"{old}/{names.STORE}", *published]

    def _settle(self, fetched: install.Fetched, term: int) -> None:
        """What was fetched becomes this node's state; the vote record comes last."""
        disk, own = self._env.disk, self._config.node
        install.place(disk, self._paths, fetched, self._config.wal.segment_bytes_max)
        formation.write_vote(disk, self._paths, fetched.manifest, own.id, self._storage_id, term)

    def close(self) -> None:
        """End the lane."""
        self._lane.close()


def _read_answer(said: Mapping[str, Any], own_id: str) -> Answer:
    data = said["data"]
    members_index, members = said["members"] or (0, ())
    return Answer(
        node_id=str(said["node_id"]),
        start_number=int(said["start"]),
        vote=bool(said["vote"]),
        history=_history(said["history"]),
        leader=str(said["leader"]),
        leader_address=str(said["leader_address"]),
        serves=bool(said["serves"]),
        sole_voter=bool(said["sole_voter"]),
        lists_us=own_id in said["peers"] or own_id in members,
        data=Data(Timeline.parse(data[0]), int(data[1]), bytes(data[2]), int(data[3])) if data else None,
        peers=frozenset(str(peer) for peer in said["peers"]),
        members=frozenset(str(member) for member in members),
        members_index=int(members_index),
        spares=frozenset(str(spare) for spare in said["spares"]),
    )


def _history(data: bytes) -> History | None:
    return history_format.decode(data, "the peer's history") if data else None
