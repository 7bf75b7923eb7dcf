"""Who and where: cluster, timeline and storage ids, and points in a log.

`cluster_id` and `storage_id` are 16 random bytes, shown as 32 hex digits. A timeline is a counter for
people plus 64 random bits for truth, shown as `3-51d0c3a29f5b7e11`; timelines are compared by ancestry
(format/history.py) and never by counter (design section 6).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from neumann.errors import BadInput
from neumann.format.fields import build, checked

ID_BYTES = 16
_TIMELINE = re.compile(r"([1-9][0-9]{0,8})-([0-9a-f]{16})")


class Timeline(NamedTuple):
    """One line of history. `counter` < 2**32, `random` < 2**64; equality needs both."""

    counter: int
    random: int

    def __str__(self) -> str:
        return f"{self.counter}-{self.random:016x}"

    @classmethod
    def parse(cls, text: str) -> Timeline:
        """The inverse of str(); BadInput for anything else."""
        match = _TIMELINE.fullmatch(text)
        if match is None:
            raise BadInput(f"{text!r} is not a timeline", remedy="one looks like 1-51d0c3a29f5b7e11")
        return cls(int(match[1]), int(match[2], 16))


class LogPoint(NamedTuple):
    """The end of a frame: its last index, its term, and its chain value (the frame's header CRC).

    The base of a log is a point too: there `chain` is the CRC of the timeline's history record.
    """

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    term: int
    chain: int


class Member(NamedTuple):
    """One line of the configuration. `role` is "voter" or "learner"; `storage_id` 16 bytes."""

    node_id: str
    storage_id: bytes
    address: str
    role: str


class Candidate(NamedTuple):
    """Who stands for election: a node, and the storage that it is. A vote binds to both (section 6)."""

    node_id: str
    storage_id: bytes


NOBODY = Candidate("", b"")
"""The vote of a voter that has given none."""


class Incarnation(NamedTuple):
    """Who exactly sends: which storage, and which start of it (0 where the message does not tell)."""

    storage_id: bytes
    start_number: int = 0


VOTER = "voter"
LEARNER = "learner"


class Configuration(NamedTuple):
    """The membership, as a configuration entry carries it, ordered by node id.

    `removed` holds node ids that an operator removed: they are not taken in again by themselves. `held`
    holds learners that an operator wants to stay so: they are not promoted by themselves. `replaced` holds
    learners that stand, with another disk, in the place of a voter: they vote again once they have caught up.
    """

    members: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def member(self, node_id: str) -> Member | None:
        """The member of that name, or None."""
        for member in self.members:  # no generator: each peer message passes here
            if member.node_id == node_id:
                return member
        return None

    @property
    def voters(self) -> tuple[str, ...]:
        """Node ids that vote, in order."""
        return tuple(m.node_id for m in self.members if m.role == VOTER)

    @property
    def learners(self) -> tuple[str, ...]:
        """Node ids that only receive, in order."""
        return tuple(m.node_id for m in self.members if m.role == LEARNER)

    def with_member(self, member: Member) -> Configuration:
        """The same with this member added, or in place of the one of its name; a voter is neither held nor
        replaced."""
        others = [m for m in self.members if m.node_id != member.node_id]
        members = tuple(sorted([*others, member]))
        removed = _without(self.removed, member.node_id)
        held, replaced = self.held, self.replaced
        if member.role == VOTER:
            held, replaced = _without(held, member.node_id), _without(replaced, member.node_id)
        return Configuration(members, removed, held, replaced)

    def without(self, node_id: str) -> Configuration:
        """The same without that member, remembering that it was removed."""
        members = tuple(m for m in self.members if m.node_id != node_id)
        removed = tuple(sorted({*self.removed, node_id}))
        return Configuration(members, removed, _without(self.held, node_id), _without(self.replaced, node_id))

    def holding(self, node_id: str) -> Configuration:
        """The same; that learner stays one until somebody promotes it."""
        return self._replace(held=tuple(sorted({*self.held, node_id})))

    def replacing(self, node_id: str, storage_id: bytes) -> Configuration:
        """The same; the voter of that name is a learner with this storage, until it has caught up."""
        member = self.member(node_id)
        assert member is not None and member.role == VOTER, node_id
        members = self.with_member(member._replace(storage_id=storage_id, role=LEARNER))
        return members._replace(replaced=tuple(sorted({*self.replaced, node_id})))


def _without(node_ids: tuple[str, ...], node_id: str) -> tuple[str, ...]:
    return tuple(known for known in node_ids if known != node_id)


def configuration_from_plain(fields: tuple[object, ...]) -> Configuration:
    """The configuration in these decoded fields; ValueError if they are none."""
    members, removed, held, replaced = checked(fields, (tuple, tuple, tuple, tuple))
    return Configuration(
        tuple(build(Member, m) for m in members),
        checked(removed, (str,) * len(removed)),
        checked(held, (str,) * len(held)),
        checked(replaced, (str,) * len(replaced)),
    )


def voters_wanted(member_count: int) -> int:
    """The largest odd number not above the members, or two where there are two (design section 6)."""
    if member_count <= 2:
        return member_count
    return member_count if member_count % 2 else member_count - 1
