"""A member that gives its state up: what must hold then, and what makes sure of it (design section 6, R1).

**What must hold.** From the moment at which its state goes, of every configuration that is in force or may
come into force, a majority of the voters is there without it, and has every frame that was acknowledged. Of
its vote nothing is lost: a storage that is gone votes no more, and who comes back is another one.

**What makes sure of it**, however long the going takes, and whoever leads meanwhile:

1. The node closes its member first. From here on nobody hears it, until its next start with a higher number.
2. It asks the leader, with the newest term that it ever answered in: the one in its vote's record.
3. The leader says yes where no change of the membership is on its way, and a majority of the voters, this
   one not among them, was heard just now and has all that is committed. A later term than its own is a no.
   From its yes on it counts nothing any more that this start of the node said, or an earlier one, however
   late it arrives (`Raft.leaves`).
4. At a yes the state goes. Otherwise the member is opened again, and counts again.

**Why no later leader needs to know.** A leader promotes, removes and lets go only on the word of members that
answered in its own leadership. In a term above that of the leader it asked the node has answered nobody, and
in that one it counts no more; a leader of an earlier term can't be elected or commit any more. So who is
elected later was so by a majority without it, and whatever changes then keeps one. Of two that ask at once,
neither is counted for the other, by one leader or by two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from neumann.env import Disk, Net
from neumann.env.files import read_file
from neumann.errors import Corrupt, NeumannError, OutcomeUnknown, RefusedByState, Unavailable
from neumann.format import state
from neumann.format.ids import Incarnation
from neumann.format.names import Paths
from neumann.raft.quorum import majority
from neumann.recovery.formation import read_identity
from neumann.runtime.member import Member
from neumann.runtime.operations import needs_leader

_ANSWER_TIMEOUT_S = 5.0
_LOOK_AGAIN_S = 0.01
_EVERY_START = (1 << 63) - 1


class Leaving(NamedTuple):
    """Who asks. `storage_id`: b"" where its identity can't be read, for the one that the configuration names;
    `term`: the newest that it answered in."""

    node_id: str
    storage_id: bytes
    start_number: int
    term: int

    def at_least(self, start_number: int, term: int) -> Leaving:
        """The same, where its process knows more than a disk that may be damaged."""
        return self._replace(start_number=max(start_number, self.start_number), term=max(term, self.term))


def of_disk(disk: Disk, paths: Paths, node_id: str) -> Leaving:
    """The node whose directory this is; its member is closed. A vote's record that can't be read holds
    nothing any more: no start of it counts."""
    try:
        storage_id = read_identity(disk, paths).storage_id
    except (FileNotFoundError, NeumannError):
        storage_id = b""
    try:
        _, vote = state.decode_vote(read_file(disk, paths.vote), paths.vote)
    except (FileNotFoundError, Corrupt):
        return Leaving(node_id, storage_id, _EVERY_START, 0)
    return Leaving(node_id, storage_id, vote.start_number, vote.term)


async def ask(net: Net, leader: str, address: str, leaving: Leaving) -> None:
    """Ask the leader; RefusedByState or Unavailable where the state has to stay."""
    try:
        said = await net.call(address, "leave", [*leaving], _ANSWER_TIMEOUT_S)
    except (Unavailable, OutcomeUnknown) as error:
        raise Unavailable(
            f"{leader} did not say that this node's state may go: {error.message}; nothing was changed",
            remedy="try again",
        ) from error
    match said:
        case {"text": ""}:
            return
        case {"text": str() as text}:
            raise RefusedByState(f"{leader} leads, and {text}; nothing was changed", remedy="try again")
    raise Unavailable(f"{leader} gave an answer to leave that can't be read", remedy="try again")


async def answer(member: Member, leaving: Leaving) -> Mapping[str, Any]:
    """The leader's: `text` is why not, "" for yes. What is about to be so is waited for, half an election
    timeout: it may need the node itself to lead on."""
    needs_leader(member)
    raft, node_id = member.raft, leaving.node_id
    named = raft.configuration.member(node_id)
    storage_id = leaving.storage_id or (named.storage_id if named is not None else b"")
    wait_s = member.config.raft.election_timeout_ms / 2000
    deadline_s = asyncio.get_running_loop().time() + wait_s
    while text := _why_not(member, leaving._replace(storage_id=storage_id)):
        if asyncio.get_running_loop().time() >= deadline_s:
            return {"text": text}
        await asyncio.sleep(_LOOK_AGAIN_S)
        needs_leader(member)
    raft.leaves(node_id, Incarnation(storage_id, leaving.start_number))
    return {"text": ""}


def _why_not(member: Member, leaving: Leaving) -> str:
    raft = member.raft
    if leaving.term > raft.term:
        return (
            f"its term {raft.term} is older than {leaving.term}, in which {leaving.node_id} answered "
            "(neumann-admin leader-transfer begins another)"
        )
    if leaving.node_id == raft.node_id:
        return "is that node itself"
    if raft.configuration_pending:
        return "a change of the membership is on its way"
    named = raft.configuration.member(leaving.node_id)
    if named is None or named.storage_id != leaving.storage_id:
        return ""  # its place is taken, or gone: nobody counts on it
    voters = raft.configuration.voters
    there = [v for v in voters if v != leaving.node_id and member.membership.has_all(v)]
    if len(there) < majority(len(voters)):
        return f"without {leaving.node_id} only {len(there)} of {len(voters)} voters are up with everything"
    return ""
