"""The small part of the state that is no row: what special entries say (design section 4), and sessions.

It stands in every manifest, as of the manifest's index. `apply_special` is the only thing that changes
it, but for the point that has been applied, which data moves too, and for the sessions (apply.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from neumann.format.frame import FrameHeader
from neumann.format.ids import Configuration, LogPoint
from neumann.format.manifest import Archiving, Manifest
from neumann.format.special import Archived, Break, Marker, Pause, Resume, Special
from neumann.machine.sessions import Sessions


@dataclass(slots=True)
class MachineState:
    """What the log says at `applied`, a frame's end of time `time_ns`.

    `configuration_index` is the entry that set the configuration; from a manifest, which does not keep
    it, the manifest's index.
    """

    configuration: Configuration
    configuration_index: int
    pause: Pause | None
    archiving: Archiving
    feature_level: int
    applied: LogPoint
    time_ns: int
    sessions: Sessions = field(default_factory=Sessions)

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> MachineState:
        """The state as of a snapshot."""
        return cls(
            manifest.configuration,
            manifest.point.index,
            manifest.pause,
            manifest.archiving,
            manifest.feature_level,
            manifest.point,
            manifest.time_ns,
            Sessions(manifest.sessions),
        )

    def copy(self) -> MachineState:
        """The same, apart from what is applied to this one later."""
        return replace(self, sessions=self.sessions.copy())


def apply_special(state: MachineState, header: FrameHeader, special: Special | None) -> None:
    """Apply the special entry of a frame; None, one that can't be decoded, changes nothing (R3)."""
    match special:
        case Configuration():
            state.configuration = special
            state.configuration_index = header.first_index
        case Pause():
            state.pause = special
        case Resume():
            state.pause = None
        case Archived(through):
            state.archiving = Archiving(True, max(through, state.archiving.through))
        case Break(first=0):
            state.archiving = state.archiving._replace(on=False)
        case Break(_, last):
            state.archiving = state.archiving._replace(through=max(last, state.archiving.through))
        case Marker():
            state.feature_level = max(state.feature_level, special.feature_level)
    state.applied = header.end
    state.time_ns = header.time_ns
