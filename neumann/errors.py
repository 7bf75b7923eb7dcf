"""Every error of the product, with its exit code and HTTP status. Nobody else defines either.

The rules: a message says what is wrong, where, and whose fault it is; `remedy` says what to do about
it. `code` is the stable word that clients, JSON answers and RPC errors carry. `code`, `exit_code` and
`http_status` belong to the class, so one condition has one number on every face (interface.md, 1 and 2).
"""

from __future__ import annotations

from typing import ClassVar


class NeumannError(Exception):
    """Base of all errors that a caller may see. `detail` is small, JSON-able, and may be empty."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, remedy: str = "", detail: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.detail: dict[str, object] = detail or {}

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class BadInput(NeumannError):
    """The caller's fault: a request, flag, file or target that can't be taken. Nothing changed."""

    code, exit_code, http_status = "bad_input", 2, 400


class ConfigError(BadInput):
    """The configuration can't be taken: unknown key, wrong type, a relation that does not hold."""

    code = "bad_config"


class TooLarge(BadInput):
    """A key, value, command or request is over its limit."""

    code, http_status = "too_large", 413


class Unauthorized(NeumannError):
    """The request carries no token, or another one than the node's token file has."""

    code, exit_code, http_status = "unauthorized", 2, 401


class NotFound(NeumannError):
    """The row, snapshot or file that was asked for is not there."""

    code, exit_code, http_status = "not_found", 10, 404


class ConditionFailed(NeumannError):
    """A conditional write found another row than it asked for; nothing was written."""

    code, exit_code, http_status = "condition", 9, 412


class Unavailable(NeumannError):
    """Not done, and the fault is passing: no leader, starting, a peer away. Try again."""

    code, exit_code, http_status = "unavailable", 8, 503


class NotLeader(Unavailable):
    """This node can't do it and another can; detail has `leader` and `address` where known."""

    code = "not_leader"


class BackPressure(Unavailable):
    """More is outstanding than the limits allow. Not done; slow down and try again."""

    code, http_status = "back_pressure", 429


class DiskFull(Unavailable):
    """Too little free space to write safely. Not done; recovers by itself when space returns."""

    code = "disk_full"


class OutcomeUnknown(NeumannError):
    """The operation was begun and its end was not seen: it may or may not take effect."""

    code, exit_code, http_status = "outcome_unknown", 8, 504


class SessionExpired(OutcomeUnknown):
    """The client's session, or this serial of it, is forgotten: nothing was done now, and nobody remembers
    whether an earlier try was."""

    code, exit_code, http_status = "session_expired", 9, 409


class Paused(NeumannError):
    """Writes are paused by an operator. Not done; detail has `until` where known."""

    code, exit_code, http_status = "paused", 9, 503


class RefusedByState(NeumannError):
    """What was asked does not fit the state that is there; the message names both."""

    code, exit_code, http_status = "refused", 9, 409


class InUse(NeumannError):
    """A lock, a port or a living cluster is in the way."""

    code, exit_code, http_status = "in_use", 7, 409


class WrongHistory(NeumannError):
    """Files or nodes of another cluster or timeline (R11); the message names both and the remedy."""

    code, exit_code, http_status = "wrong_history", 6, 409


class TimelineChanged(WrongHistory):
    """The cluster was restored since this client pinned it: revisions it knows may be gone."""

    code = "timeline_changed"


class BeyondArchive(NeumannError):
    """The recovery target lies outside what the archive covers; the message prints the range."""

    code, exit_code, http_status = "beyond_archive", 3, 409


class ArchiveGap(NeumannError):
    """Something between two archived files is missing; the message names the range."""

    code, exit_code, http_status = "gap", 4, 409


class Corrupt(NeumannError):
    """Bytes that were once durable are not what they were. Never cut, never served (R8)."""

    code, exit_code, http_status = "corrupt", 5, 503


class FormatTooNew(NeumannError):
    """Written by a later release than this one reads; the message names the release to use."""

    code, exit_code, http_status = "format_too_new", 6, 409


class StorageFailed(NeumannError):
    """A write or fsync failed. Final for that log: the node stops and does not retry (R9)."""

    code, exit_code, http_status = "storage_failed", 1, 500


def all_error_classes() -> dict[str, type[NeumannError]]:
    """`code` -> class, for turning an answer from the wire back into its exception."""
    found: dict[str, type[NeumannError]] = {}
    queue: list[type[NeumannError]] = [NeumannError]
    while queue:
        cls = queue.pop()
        if "code" in vars(cls):  # a subclass without a word of its own travels as its base
            found[cls.code] = cls
        queue.extend(cls.__subclasses__())
    return found
