"""The pipelined put client in Python: no task or future per request, one write per wake-up.

The same closed loop and the same JSON as `loadgen -target neumann -workload put`; requests are packed
before the clock runs. `python -m bench.rawclient -endpoint HOST:PORT [flags of loadgen]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from typing import Any, cast

import msgpack
import uvloop

_TABLE = "bench"
_PUT = 1


class Connection(asyncio.Protocol):
    """Keeps `outstanding` puts in flight until `until_ns`; `ended` when the last is answered."""

    def __init__(self, bodies: list[bytes], outstanding: int, window_ns: tuple[int, int], seed: int) -> None:
        self._bodies = bodies
        self._random = random.Random(seed)
        self._from_ns, self._until_ns = window_ns
        self._sent_at_ns = [0] * outstanding
        self._heads = [b"\x94\x00\xcd" + slot.to_bytes(2, "big") for slot in range(outstanding)]
        self._unpacker = msgpack.Unpacker(use_list=False, strict_map_key=False)
        self._in_flight = 0
        self.latencies_ns: list[int] = []
        self.failures: list[str] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        hello = msgpack.packb([0, 0, "hello", [1, None, None, None]])
        self._transport.write(hello)
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        now_ns = time.perf_counter_ns()
        self._unpacker.feed(data)
        slots: list[int] = []
        for _, slot, error, result in self._unpacker:
            if not self._greeted:
                self._greeted = True
                slots = list(range(len(self._heads)))
                self._in_flight = len(slots)
                if error is not None:
                    raise SystemExit(f"rawclient: hello: {error}")
                continue
            if error is not None or result[1] != 0:
                self.failures.append(str(error or result))
            elif self._from_ns <= now_ns < self._until_ns:
                self.latencies_ns.append(now_ns - self._sent_at_ns[slot])
            slots.append(slot)
        if now_ns < self._until_ns and len(self.failures) <= 100:
            self._send(slots, now_ns)
            return
        self._in_flight -= len(slots)
        if self._in_flight == 0 and not self.ended.done():
            self.ended.set_result(None)

    def _send(self, slots: list[int], now_ns: int) -> None:
        bodies = self._random.choices(self._bodies, k=len(slots))
        parts = []
        for slot, body in zip(slots, bodies, strict=True):
            self._sent_at_ns[slot] = now_ns
            parts.append(self._heads[slot] + body)
        self._transport.write(b"".join(parts))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the server closed the connection"))


def pack_bodies(keys: int, value_bytes: int) -> list[bytes]:
    """What follows the id in a put of each key: `"write", [command]`."""
    value = msgpack.packb(b"v" * value_bytes)
    commands = [
        msgpack.packb((_PUT, _TABLE, f"key-{number:08d}", None, 0, 0, value)) for number in range(keys)
    ]
    return [msgpack.packb("write") + msgpack.packb([command]) for command in commands]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Drive the workload and summarise what was seen."""
    host, _, port = options.endpoint.rpartition(":")
    bodies = pack_bodies(options.keys, options.value_bytes)
    loop = asyncio.get_running_loop()
    from_ns = time.perf_counter_ns() + int(options.warmup * 1e9)
    window_ns = (from_ns, from_ns + int(options.seconds * 1e9))
    connections = []
    for number in range(options.connections):
        seed = options.seed * 1000 + number
        protocol = Connection(bodies, options.outstanding, window_ns, seed)
        await loop.create_connection(lambda protocol=protocol: protocol, host, int(port))  # type: ignore[misc]
        connections.append(protocol)
    for connection in connections:
        await connection.ended
    latencies_ns = sorted(ns for connection in connections for ns in connection.latencies_ns)
    failures = [text for connection in connections for text in connection.failures]

    def quantile_ms(q: float) -> float:
        return latencies_ns[int(q * (len(latencies_ns) - 1))] / 1e6 if latencies_ns else 0.0

    return {
        "operations": len(latencies_ns),
        "rate": len(latencies_ns) / options.seconds,
        "p50_ms": quantile_ms(0.5),
        "p99_ms": quantile_ms(0.99),
        "max_ms": quantile_ms(1.0),
        "errors": len(failures),
        "error": failures[0] if failures else "",
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="rawclient", description=__doc__)
    parser.add_argument("-endpoint", required=True)
    parser.add_argument("-connections", type=int, default=8)
    parser.add_argument("-outstanding", type=int, default=32)
    parser.add_argument("-keys", type=int, default=10_000)
    parser.add_argument("-value-bytes", type=int, default=100)
    parser.add_argument("-seconds", type=float, default=5.0)
    parser.add_argument("-warmup", type=float, default=1.0)
    parser.add_argument("-seed", type=int, default=1)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
