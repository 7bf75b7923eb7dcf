"""How what has many parts ends: all of them do, whatever the end of one raises."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

End = Callable[[], Awaitable[None] | None]


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
