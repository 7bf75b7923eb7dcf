"""The configurations of the local log. The newest one is in force from its append (thesis 4.1).

If the frame that brought it is truncated, the one before comes back; so every configuration behind the
log's base is kept, and the one that was in force at the base.
"""

from __future__ import annotations

from neumann.format import special
from neumann.format.frame import Frame, Kind
from neumann.format.ids import VOTER, Candidate, Configuration


class Memberships:
    """Configurations by the index of their entry, oldest first; the newest one's voters, who the others
    are, which storage each member is, and whether `own` (this node with this storage) votes."""

    __slots__ = (
        "_history",
        "configuration",
        "index",
        "is_voter",
        "others",
        "own",
        "storages",
        "voters",
    )

    def __init__(self, own: Candidate, index: int, configuration: Configuration) -> None:
        self.own = own
        self.reset(index, configuration)

    def reset(self, index: int, configuration: Configuration) -> None:
        """Forget all; `configuration`, from entry `index`, is in force."""
        self._history = [(index, configuration)]
        self._take_newest()

    def append(self, index: int, configuration: Configuration) -> None:
        """A newer configuration came into the log."""
        assert index > self.index
        self._history.append((index, configuration))
        self._take_newest()

    def append_frame(self, frame: Frame) -> None:
        """What this frame does to the membership: only a readable CONFIGURATION does anything."""
        if frame.header.kind is Kind.CONFIGURATION:
            entry = special.decode(frame)
            if isinstance(entry, Configuration):
                self.append(frame.header.last_index, entry)

    def truncate_after(self, index: int) -> None:
        """The log behind `index` was cut."""
        if self.index > index:
            self._history = [entry for entry in self._history if entry[0] <= index]
            self._take_newest()

    def drop_before(self, index: int) -> None:
        """The log up to `index` was dropped: only the configuration in force there is needed."""
        older = [entry for entry in self._history if entry[0] <= index]
        self._history = older[-1:] + self._history[len(older) :]

    def at(self, index: int) -> Configuration:
        """The configuration in force at `index`, which is not before the log's base."""
        return max(entry for entry in self._history if entry[0] <= index)[1]

    def _take_newest(self) -> None:
        assert self._history, "a truncation never reaches behind the log's base"
        self.index, self.configuration = self._history[-1]
        members = self.configuration.members
        self.voters = self.configuration.voters
        self.others = tuple(m.node_id for m in members if m.node_id != self.own.node_id)
        self.storages = {m.node_id: m.storage_id for m in members}
        self.is_voter = any(m[:2] == self.own and m.role == VOTER for m in members)
