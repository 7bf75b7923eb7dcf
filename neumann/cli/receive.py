"""wal-receive: committed frames into an archive, as they commit."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import click

from neumann.archive.destinations import Destination, destination
from neumann.archive.receive import Lag, receive
from neumann.cli import output
from neumann.cli.place import local, places
from neumann.cli.verb import Call, verb
from neumann.env.clock import RealClock, RealEntropy
from neumann.env.net import RealNet
from neumann.errors import Unavailable

_TOKEN_BYTES = 8
_SECOND_NS = 1_000_000_000


@verb("wal-receive")
@click.argument("dest", metavar="DEST")
@click.option(
    "--status-interval", type=click.FloatRange(0), default=10.0, metavar="S", help="0: only at the end."
)
@click.option("--once", is_flag=True, help="Only what is committed by now; for a timer.")
def wal_receive(call: Call, dest: str, status_interval: float, once: bool) -> None:
    """Write the log to DEST as it commits, until it is interrupted; all nodes lost cost under a second.

    DEST is a directory, HOST:PATH (ssh) or s3://BUCKET/PREFIX.
    What is not sealed yet is in a .part file, which wal-list and wal-replay know. May be killed at any
    moment and run again, and may run beside archive_command. Exits 4 if the log was dropped behind it.
    """
    info = call.node.get("/admin/cluster").body
    leader = info["leader"]
    members = sorted(info["members"], key=lambda member: member["node_id"] != leader)
    addresses = [member["address"] for member in members]
    if not addresses:
        raise Unavailable("that node knows no members", remedy="ask another with --admin")
    with places() as files:
        target = destination(files, local(dest), RealEntropy().token(_TOKEN_BYTES))
        status = _Status(call, round(status_interval * _SECOND_NS))
        asyncio.run(_receive(addresses, target, status, once))
        status.show()


class _Status:
    """Prints the lag from time to time."""

    def __init__(self, call: Call, interval_ns: int) -> None:
        self._call = call
        self._interval_ns = interval_ns
        self._clock = RealClock()
        self._shown_ns = self._clock.monotonic_ns()
        self._lag: Lag | None = None

    def told(self, lag: Lag) -> None:
        """The newest."""
        self._lag = lag
        if self._interval_ns and self._clock.monotonic_ns() - self._shown_ns >= self._interval_ns:
            self.show()

    def show(self) -> None:
        """A line, if anything was received."""
        self._shown_ns = self._clock.monotonic_ns()
        lag = self._lag
        if lag is not None:
            self._call.show(
                lag._asdict(),
                lambda: (
                    f"received through {lag.last_index:,}, {lag.entries:,} entries "
                    f"({lag.seconds:.2f} s) behind, {output.size(lag.part_bytes)} in the part"
                ),
            )


async def _receive(addresses: list[str], target: Destination, status: _Status, once: bool) -> None:
    net = RealNet()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await receive(net.call, addresses, target, status.told, once=once)
    finally:
        await net.close()
