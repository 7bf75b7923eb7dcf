"""What a starting node does: one pure table, (what is on disk, what peers say, flags) -> action.

`neumann --explain-start` prints it; interface.md section 5 has the table, tests have one case a row.
`look` gathers what is on disk; runtime/formation.py asks the peers and acts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from neumann.env import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt, NeumannError
from neumann.format import history as history_format
from neumann.format import names, state
from neumann.format.history import History
from neumann.format.ids import Timeline
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.names import Paths
from neumann.recovery import adopt
from neumann.recovery.formation import LOST_MAJORITY, read_identity
from neumann.runtime import divergence
from neumann.snapshot.segment_file import configurations_of
from neumann.store.manifests import load_newest
from neumann.wal import TwoSlotFile


class Action(StrEnum):
    """What the node does next. WAIT: it serves nothing and asks the peers again."""

    FINISH_RESTORE = "finish the interrupted restore, then look again"
    RUN = "run as a member"
    WAIT = "wait"
    JOIN = "join the leader as a learner"
    ADOPT = "adopt the data here as a new timeline, as sole voter"
    FORM = "create a new, empty cluster, as sole voter"
    REFUSE = "refuse to start"


class Data(NamedTuple):
    """The newest complete data on a disk without a vote."""

    timeline: Timeline
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    digest: bytes
    time_ns: int


class Found(NamedTuple):
    """What is on this node's disk. `history` is the member's, or the data's. `members_index`: a later
    configuration than the one at this index is not known here. `unreadable`: why vote or sync mark, though
    there, can't be read in either slot: then the node has no state, and had some. `diverged`: how an
    earlier run found that it differs from the others."""

    journal: bool = False
    foreign: tuple[str, ...] = ()
    vote: bool = False
    sole_voter: bool = False
    history: History | None = None
    data: Data | None = None
    members_index: int = 0
    unreadable: str = ""
    diverged: str = ""


class Answer(NamedTuple):
    """What one peer said of itself (RPC `who`). `members`: node ids of the committed configuration, whose
    entry is `members_index`; nobody and 0 while a change is on its way. `spares`: without which of them this
    leader still has a majority of voters that are up and have caught up."""

    node_id: str
    start_number: int = 0
    vote: bool = False
    history: History | None = None
    leader: str = ""
    leader_address: str = ""
    serves: bool = False
    sole_voter: bool = False
    lists_us: bool = False
    data: Data | None = None
    peers: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    members_index: int = 0
    spares: frozenset[str] = frozenset()


class Decision(NamedTuple):
    """The action, the reason for it in one line, what a person can do, and whom to join."""

    action: Action
    reason: str
    remedy: str = ""
    leader: Answer | None = None


_INIT = "neumann-admin init-cluster --bootstrap adopts what is here, or creates an empty cluster"
_RESTORE = "a cluster that no node of it can lead is restored: neumann-admin wal-replay"
_REJOIN = "neumann-admin rejoin sets this node's state aside and joins"


def decide(
    found: Found, node_id: str, peers: frozenset[str], answers: Mapping[str, Answer], *, bootstrap: bool
) -> Decision:
    """The table. `peers`: other node ids in the config; `answers`: of those that answered."""
    if found.journal:
        return Decision(Action.FINISH_RESTORE, "a restore was interrupted")
    if found.foreign and not found.vote:
        listed = ", ".join(found.foreign[:3])
        return Decision(
            Action.REFUSE,
            f"the data directory holds what is not ours: {listed}",
            "give the node an empty directory, or move that away",
        )
    if found.diverged:
        return Decision(Action.WAIT, f"this replica has diverged: {found.diverged}", _REJOIN)
    if found.vote and not found.unreadable:
        return _as_member(found, node_id, answers)
    if found.unreadable and found.sole_voter:
        return Decision(Action.REFUSE, f"{found.unreadable}; this node is the only voter", _RESTORE)
    leading = [a for a in answers.values() if a.leader and a.leader_address and a.history is not None]
    if len({a.history.cluster_id for a in leading if a.history}) > 1:
        both = " and ".join(f"{a.node_id} ({_name(a.history)})" for a in leading)
        return Decision(Action.WAIT, f"peers serve two clusters: {both}", "take one out of `peers`")
    if leading:
        return _join(found, leading)
    if found.unreadable:
        return Decision(Action.WAIT, f"{found.unreadable}, so it joins anew, and nobody leads", _RESTORE)
    if voting := sorted(a.node_id for a in answers.values() if a.vote):
        return Decision(
            Action.WAIT,
            f"{', '.join(voting)} has a vote, and nobody leads yet",
            f"start the others that have one; {LOST_MAJORITY}",
        )
    if bootstrap:
        return _form(found, node_id, peers, answers)
    if found.data is not None:
        return Decision(Action.WAIT, "data without a vote, and nobody leads", _INIT)
    return Decision(Action.WAIT, "no data, and no peer leads a cluster that lists this node", _INIT)


def _as_member(found: Found, node_id: str, answers: Mapping[str, Answer]) -> Decision:
    """A vote is never given up for what the network says (R12). A sole voter is also held back by the
    formation guard (design section 6). A leader that peers of the own timeline know settles it."""
    assert found.history is not None
    own = found.history
    removed = was_removed(found, node_id, answers)
    if removed is not None:
        return removed
    for answer in answers.values():
        if answer.history == own and answer.leader not in ("", node_id):
            return Decision(Action.RUN, f"{answer.leader} leads this timeline")
    for answer in answers.values():
        if answer.history is None or not (answer.leader or answer.sole_voter):
            continue
        kin = history_format.relation(own, answer.history)
        if kin == "same":
            continue
        if found.sole_voter or (kin in ("ancestor", "descendant") and answer.leader):
            return Decision(
                Action.WAIT,
                f"{answer.node_id} serves {_name(answer.history)}, and this node is of "
                f"{_name(own)}{_fork(own, answer.history, kin)}",
                _REJOIN,
            )
    return Decision(Action.RUN, "this node has a vote")


def was_removed(found: Found, node_id: str, answers: Mapping[str, Answer]) -> Decision | None:
    """WAIT, where the cluster goes on without this member: a peer of its timeline knows a leader, and a
    committed configuration, not older than what is known here, without this node. A peer that knows one
    with it settles the opposite. Nothing is given up: it asks until somebody takes it in again (R12)."""
    denying = None
    for answer in answers.values():
        if answer.history != found.history or not answer.leader:
            continue
        if node_id in answer.members:
            return None
        if answer.members_index >= max(1, found.members_index):
            denying = answer
    if denying is None:
        return None
    others = ", ".join(sorted(denying.members))
    return Decision(
        Action.WAIT,
        f"{node_id} was removed from the cluster: {denying.leader} leads {others}",
        f"to take it in again: neumann-admin member-add {node_id}=HOST:PORT on one of them",
    )


def _fork(own: History, other: History, kin: str) -> str:
    """Where the younger of two related histories left the older."""
    if kin not in ("ancestor", "descendant"):
        return ""
    older, younger = sorted((own.records, other.records), key=len)
    return f"; the younger forked at index {younger[len(older)].fork_index}"


def _join(found: Found, leading: list[Answer]) -> Decision:
    inviting = [a for a in leading if a.lists_us]
    if not inviting:
        return Decision(
            Action.WAIT,
            f"{leading[0].node_id} knows a leader, but this node is in nobody's `peers`",
            "add it to the leader's peers, or neumann-admin member-add",
        )
    chosen = min(inviting, key=lambda a: a.node_id)
    if found.history and chosen.history and found.history.cluster_id != chosen.history.cluster_id:
        return Decision(
            Action.WAIT,
            f"the data here are of {_name(found.history)}, the peers' of {_name(chosen.history)}",
            "move the data away, or point `peers` at the other cluster",
        )
    return Decision(Action.JOIN, f"{chosen.leader} leads {_name(chosen.history)}", leader=chosen)


def _form(found: Found, node_id: str, peers: frozenset[str], answers: Mapping[str, Answer]) -> Decision:
    """--bootstrap, and nobody who answered has a vote: only when every configured peer has answered."""
    silent = sorted(peers.difference(answers))
    if silent:
        return Decision(Action.WAIT, f"waiting for an answer of {', '.join(silent)}", _INIT)
    everybody = frozenset({node_id, *peers})
    for answer in answers.values():
        if answer.peers | {answer.node_id} != everybody:
            return Decision(
                Action.WAIT,
                f"{answer.node_id} names other peers: {', '.join(sorted(answer.peers))}",
                "make `peers` the same on every node",
            )
    holdings = {node_id: found.data, **{a.node_id: a.data for a in answers.values()}}
    if not any(holdings.values()):
        return _smallest(node_id, everybody, Action.FORM, "no configured node has data")
    listed = "; ".join(f"{n}: {_holding(d)}" for n, d in sorted(holdings.items()))
    if not all(holdings.values()) or len({d[:3] for d in holdings.values() if d}) > 1:
        return Decision(Action.WAIT, f"the nodes hold different data: {listed}", _INIT)
    return _smallest(node_id, everybody, Action.ADOPT, f"every configured node holds the same data: {listed}")


def _smallest(node_id: str, everybody: frozenset[str], action: Action, reason: str) -> Decision:
    first = min(everybody)
    if node_id == first:
        return Decision(action, reason)
    return Decision(Action.WAIT, f"{reason}; {first} begins, and this node joins it")


def _holding(data: Data | None) -> str:
    return f"timeline {data.timeline} up to {data.index}" if data else "nothing"


def _name(history: History | None) -> str:
    if history is None:
        return "no cluster"
    return f"cluster {history.cluster_id.hex()} timeline {history.timeline}"


def look(disk: Disk, paths: Paths) -> Found:
    """What is in the data directory; reads a few small files."""
    foreign = tuple(filter(names.is_foreign, disk.list(paths.root)))
    journal = disk.exists(paths.journal)
    if disk.exists(paths.vote):
        history, is_sole, index = _membership(disk, paths)
        unreadable = _unreadable(disk, paths)
        diverged = divergence.noted(disk, paths)
        return Found(journal, foreign, True, is_sole, history, None, index, unreadable, diverged)
    manifest = adopt.newest_data(disk, paths)
    if manifest is None or not manifest.point.index:  # an empty base: a formation that a crash interrupted
        return Found(journal, foreign)
    data = Data(manifest.history.timeline, manifest.point.index, layout_digest(manifest), manifest.time_ns)
    return Found(journal, foreign, history=manifest.history, data=data)


def _unreadable(disk: Disk, paths: Paths) -> str:
    try:
        TwoSlotFile(disk, paths.vote, state.encode_vote_slot, state.decode_vote).read()
        TwoSlotFile(disk, paths.sync_mark, state.encode_mark_slot, state.decode_mark).read()
    except Corrupt as error:
        return f"this node has no state any more: {error.message}"
    return ""


def _newest_voters(disk: Disk, paths: Paths, manifest: Manifest) -> tuple[str, ...]:
    """By the manifest, or, where it names one voter alone, by what the log has behind it: a cluster of
    three begins with one voter, and its first manifest may be its only one for long."""
    voters = manifest.configuration.voters
    for path in _segments_behind(disk, paths, manifest) if len(voters) == 1 else ():
        with contextlib.suppress(Corrupt):  # the opening, which judges the log, says what is wrong
            for configuration in configurations_of(read_file(disk, path), path):
                voters = configuration.voters
    return voters


def _segments_behind(disk: Disk, paths: Paths, manifest: Manifest) -> list[str]:
    """The segments that may have entries behind a manifest's index, in order."""
    parsed = ((name, names.parse_segment(name)) for name in disk.list(paths.wal))
    own = [(name, found[1]) for name, found in parsed if found and found[0] == manifest.history.timeline]
    ended = sum(first_index <= manifest.point.index + 1 for _, first_index in own[1:])
    return [f"{paths.wal}/{name}" for name, _ in own[ended:]]


def _node_id(disk: Disk, paths: Paths) -> str:
    """Whose directory it is; "" where its identity can't be read, which the opening refuses."""
    try:
        return read_identity(disk, paths).node_id
    except (FileNotFoundError, NeumannError):
        return ""


def _membership(disk: Disk, paths: Paths) -> tuple[History, bool, int]:
    """(history, whether this node is the only voter, index) of the newest manifest; from the identity alone
    where there is none."""
    try:
        manifest = load_newest(disk, paths.store)
    except NeumannError:
        manifest = None
    if manifest is not None:
        is_sole = _newest_voters(disk, paths, manifest) == (_node_id(disk, paths),)
        return manifest.history, is_sole, manifest.point.index
    identity = read_identity(disk, paths)
    first = history_format.HistoryRecord(identity.timeline, None, 0, 0, 0, 0, 0, "unknown")
    return History(identity.cluster_id, (first,)), False, 0
