"""How things end: by a failure half way (`Wholly`), and all parts of what has many, whatever the end of one
raises (`end_all`)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

log = logging.getLogger(__name__)

End = Callable[[], Awaitable[None] | None]


class Wholly:
    """A context for what is done wholly: nobody knows what state is left by an error on the way, so
    `on_failure` hears of it, whoever called, and may not handle it. Entered again and again; no generator,
    as each message passes here."""

    __slots__ = ("_on_failure",)

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._on_failure(error)


async def end_all(*ends: End, failed: BaseException | None = None) -> None:
    """Call each in turn, and await what it gives; then raise the first error, if any. Later ones are logged.

    `failed`: what had gone wrong before, and made it end: this is then the first, and is raised in any case.
    """
    for end in ends:
        try:
            if (rest := end()) is not None:
                await rest
        except BaseException as error:  # a cancellation too: it waits until all has ended
            if failed is not None:
                log.error("what ends met another error: %s", error, exc_info=error)
            else:
                failed = error
    if failed is not None:
        raise failed
