"""What a start does where the log has lost what was once durable (design section 4, last part).

The damaged part goes to aside/ and the leader supplies it again by ordinary replication. Until then this
node may lack entries that were committed with its word, so the vote's record keeps a **floor**: the log
must reach that (term, index) again before the node campaigns, and it votes only for candidates that have.

Where the last acknowledged frame is known, it is the floor. Where it is not, the node enters the next term,
and the floor is that term: whoever leads it, or a later one, was elected without this node and has all that
was committed; a log that holds a frame of it holds all of that too. So no vote is given before such a
leader has supplied this node, and none is given to a candidate that lacks what that leader had.

Nothing of this is for a sole voter: nobody could supply it, so it refuses.
"""

from __future__ import annotations

import logging

from neumann.errors import Corrupt
from neumann.format import special
from neumann.format.ids import Configuration, LogPoint
from neumann.format.state import SyncMark, Vote
from neumann.wal import Loss, TwoSlotFile

log = logging.getLogger(__name__)

_WAL_REPLAY = (
    "nothing was changed; this is the only voter, so nobody can supply it: restore it with neumann-admin "
    "wal-replay from the archive"
)


def raise_floor(vote: Vote, mark: SyncMark, tail: LogPoint | None) -> Vote:
    """The vote's record after the loss; `tail` is the last frame that may have been acknowledged, or None.

    A floor that stands already is never lowered.
    """
    floor = (vote.floor_term, vote.floor_index)
    if tail is not None:
        term, index = max(floor, (tail.term, tail.index))
        return vote._replace(floor_term=term, floor_index=index)
    term = max(vote.term, mark.term) + 1
    assert floor < (term, 1)
    return vote._replace(term=term, voted_for="", voted_storage=b"", floor_term=term, floor_index=1)


class Losing:
    """Called by the log's recovery before anything is cut: floor first, then the mark (R16), both durable.

    `configuration` is the newest besides the log's, as of `configuration_index`. `vote` and `mark` are what
    is on the disk afterwards; `losses` what was given up.
    """

    def __init__(
        self,
        node_id: str,
        configuration: Configuration,
        configuration_index: int,
        vote: Vote,
        vote_file: TwoSlotFile[Vote],
        mark: SyncMark,
        mark_file: TwoSlotFile[SyncMark],
    ) -> None:
        self.vote = vote
        self.mark = mark
        self.losses: list[Loss] = []
        self._node_id = node_id
        self._configuration = configuration
        self._configuration_index = configuration_index
        self._vote_file = vote_file
        self._mark_file = mark_file

    def __call__(self, loss: Loss) -> None:
        """Corrupt for a sole voter; nothing was changed then."""
        if self._voters(loss) == (self._node_id,):
            raise Corrupt(loss.text, remedy=_WAL_REPLAY)
        self.vote = raise_floor(self.vote, self.mark, loss.tail)
        self._vote_file.write(self.vote)
        end = loss.end
        self.mark = self.mark._replace(
            segment_first=end.segment_first,
            offset=end.offset,
            index=end.point.index,
            term=end.point.term,
            chain=end.point.chain,
            clean=False,
        )
        self._mark_file.write(self.mark)
        self.losses.append(loss)
        until = (
            f"its log reaches entry {self.vote.floor_index} of term {self.vote.floor_term} again"
            if loss.tail is not None
            else f"a leader of term {self.vote.floor_term} or later has supplied it"
        )
        log.error("%s; it is set aside, and this node does not campaign until %s", loss.text, until)

    def _voters(self, loss: Loss) -> tuple[str, ...]:
        """Of the newest configuration that is left."""
        configuration = self._configuration
        for frame in loss.configurations:
            entry = special.decode(frame)
            if isinstance(entry, Configuration) and frame.header.first_index > self._configuration_index:
                configuration = entry
        return configuration.voters
