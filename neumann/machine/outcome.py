"""What became of an entry, and what its client is told. PURE."""

from __future__ import annotations

from enum import IntEnum

from neumann.errors import ConditionFailed, NeumannError, Paused, SessionExpired


class Outcome(IntEnum):
    """The numbers are part of the RPC and, in a session's answers, of the manifest."""

    APPLIED = 0
    CONDITION_FAILED = 1
    UNDECODABLE = 2
    PAUSED = 3
    SESSION_EXPIRED = 4
    SERIAL_FORGOTTEN = 5


def index_of(index: int, outcome: int) -> int:
    """The index of a command that was applied; raises the error of one that had no effect."""
    if outcome == Outcome.APPLIED:
        return index
    raise _error_of(index, outcome)


def _error_of(index: int, outcome: int) -> NeumannError:
    match outcome:
        case Outcome.CONDITION_FAILED:
            return ConditionFailed(
                f"the condition does not hold (index {index}); nothing was written",
                remedy="read the row again and decide anew",
            )
        case Outcome.PAUSED:
            return Paused(
                "writes are paused; nothing was written",
                remedy="wait, or end the pause with neumann-admin resume-writes",
            )
        case Outcome.SESSION_EXPIRED:
            return SessionExpired(
                f"the cluster does not know this session (index {index}); nothing was written now",
                remedy="open another one; whether an earlier try was done, only a read can tell",
            )
        case Outcome.SERIAL_FORGOTTEN:
            return SessionExpired(
                f"the session has forgotten serials as old as this (index {index}); nothing was written now",
                remedy="go on with later serials; whether an earlier try was done, only a read can tell",
            )
    return NeumannError(f"the command at index {index} changed nothing: no node can decode it")
