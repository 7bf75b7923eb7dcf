"""The doors to the operating system: disk, network, helper process, commands, clock, randomness.

A node touches the outside through one `Env` and nothing else, so the whole node runs in tests/sim on a
second implementation of each door: a virtual clock, a simulated network, a disk that forgets unsynced
writes. Timers and tasks are asyncio's; in the simulation the loop itself is virtual.

`Env` and the protocols are in env/doors.py, the real ones beside it; `real_env` joins them.
"""

from neumann.env.doors import (
    Clock,
    CommandEnd,
    Disk,
    DoneCallback,
    Entropy,
    Env,
    File,
    Files,
    FileStat,
    Jobs,
    Lane,
    Net,
    PeerHandler,
)

__all__ = [
    "Clock",
    "CommandEnd",
    "Disk",
    "DoneCallback",
    "Entropy",
    "Env",
    "File",
    "FileStat",
    "Files",
    "Jobs",
    "Lane",
    "Net",
    "PeerHandler",
    "real_env",
]


def real_env() -> Env:
    """A fresh set of real doors; call it on the running event loop. Whoever needs no loop loads none."""
    from neumann.env import real

    return real.real_env()
