"""The simulated network: the second implementation of env.doors.Net.

One `Network` joins all hosts of a world; each process has its own door to it, `SimNet`. A message may
be late, lost, doubled or overtaken (`Weather`), and each direction between two hosts can be cut alone.
What a cut catches is lost, or stalls in the connection's buffers and arrives when the network heals: a
late request is as real as a lost one.

A call is a request and an answer on one connection: never doubled; refused at once (Unavailable) where
nobody listens; without an answer in time, or when the connection breaks, its outcome is unknown.
Answers to either come back only to the very process that asked, on the connection that it dialled.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgpack

from neumann.env.doors import PeerHandler
from neumann.errors import NeumannError, OutcomeUnknown, Unavailable
from neumann.format import rpc
from tests.sim.loop import Process, SimLoop
from tests.sim.trace import Trace

DIAL_TIMEOUT_S = 2.0
STALLED_MESSAGES_MAX = 256
STALLED_SHARE = 0.5

Serve = Callable[[str, tuple[Any, ...]], Coroutine[Any, Any, Any]]
"""What answers calls at an address: (method, params) -> result, or a NeumannError raised."""
Sniffer = Callable[[str, str, bytes], None]
"""(source host, target host, payload) of every answer to a peer message, also of those lost."""


@dataclass(slots=True)
class Weather:
    """How messages travel. Without `reorder` those from one host to another keep their order."""

    delay_min_s: float = 0.000_05
    delay_max_s: float = 0.001
    loss: float = 0.0
    duplication: float = 0.0
    reorder: bool = False


@dataclass(slots=True, eq=False)
class _Listener:
    """Who answers at an address; `breaking` fails its unanswered calls when it dies."""

    address: str
    process: Process
    serve: Serve
    handler: PeerHandler | None
    breaking: dict[int, Callable[[], None]] = field(default_factory=dict)


def host_of(address: str) -> str:
    """The host in host:port."""
    return address.partition(":")[0]


class Network:
    """The wires. Hosts are names; an address is host:port."""

    def __init__(self, loop: SimLoop, random: Random, trace: Trace) -> None:
        self.loop = loop
        self.weather = Weather()
        self.sniffers: list[Sniffer] = []
        self.delivered = 0
        self._random = random
        self._trace = trace
        self._context = copy_context()  # of no process: what is under way outlives its sender
        self._listeners: dict[str, _Listener] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()
        self._arrivals: dict[tuple[str, str], float] = {}
        self._stalled: list[tuple[str, str, Callable[[], None], bool]] = []
        self._call_count = 0

    def door(self, process: Process | None, host: str) -> SimNet:
        """The network as a process on that host sees it; None is the world itself (its clients)."""
        return SimNet(self, process, host)

    def listen(self, address: str, process: Process, serve: Serve, handler: PeerHandler | None) -> None:
        """Answer at that address until the process dies."""
        listener = _Listener(address, process, serve, handler)
        self._listeners[address] = listener
        process.at_death(lambda: self._hang_up(listener))

    def hang_up(self, address: str) -> None:
        """Stop listening there: an orderly stop. Connections break."""
        self._hang_up(self._listeners[address])

    def cut(self, source: str, target: str) -> None:
        """Nothing passes from `source` to `target` any more; the other direction is untouched."""
        self._cuts[source, target] += 1

    def isolate(self, host: str, others: Iterable[str]) -> list[tuple[str, str]]:
        """Cut both ways between it and each of them; the ways, to be mended."""
        ways = [way for other in others if other != host for way in ((host, other), (other, host))]
        for way in ways:
            self.cut(*way)
        return ways

    def mend(self, source: str, target: str) -> None:
        """Take back one cut of that direction; with the last one, what stalled arrives."""
        self._cuts[source, target] -= 1
        if self._cuts[source, target] <= 0:
            del self._cuts[source, target]
            self._carry_stalled()

    def heal(self) -> None:
        """All wires whole and the weather fair; what stalled arrives."""
        self._cuts.clear()
        self.weather = Weather()
        self._carry_stalled()

    def _carry_stalled(self) -> None:
        stalled, self._stalled = self._stalled, []
        for waiting in stalled:
            if waiting[:2] in self._cuts:
                self._stalled.append(waiting)
            else:
                self.carry(*waiting)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether that direction is cut now."""
        return (source, target) in self._cuts

    def listener(self, address: str) -> _Listener | None:
        """Who listens there now."""
        found = self._listeners.get(address)
        return found if found is not None and found.process.is_alive else None

    # --- transport -------------------------------------------------------------------------------

    def carry(self, source: str, target: str, arrive: Callable[[], None], once: bool = False) -> bool:
        """Have `arrive` called at the other end: later, perhaps twice, perhaps never (then False).

        `once`: a byte stream's data, which is neither doubled nor silently dropped by the weather.
        """
        random, weather = self._random, self.weather
        if (source, target) in self._cuts:
            if random.random() < STALLED_SHARE and len(self._stalled) < STALLED_MESSAGES_MAX:
                self._stalled.append((source, target, arrive, once))
            return True
        if weather.loss and random.random() < weather.loss:
            return False
        self._schedule(source, target, arrive)
        if not once and weather.duplication and random.random() < weather.duplication:
            self._schedule(source, target, arrive)
        return True

    def _schedule(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        at_s = self.loop.time() + self.delay_s()
        if not self.weather.reorder:
            at_s = max(at_s, self._arrivals.get((source, target), 0.0))
            self._arrivals[source, target] = at_s
        self.loop.call_at(at_s, self._arrive, source, target, arrive, context=self._context)

    def delay_s(self) -> float:
        """One way."""
        weather = self.weather
        delay = self._random.uniform(weather.delay_min_s, weather.delay_max_s)
        return delay * self._random.choice((1, 1, 1, 20)) if weather.reorder else delay

    def _arrive(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        if (source, target) not in self._cuts:
            self.delivered += 1
            arrive()

    def later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """A timer of the network itself."""
        self.loop.call_later(delay_s, callback, context=self._context)

    # --- peer messages ---------------------------------------------------------------------------

    def send(self, door: SimNet, address: str, payload: bytes) -> None:
        """A peer message, with a way back for the answer."""
        source, target = door.host, host_of(address)

        def reply(answer: bytes) -> None:
            for sniffer in self.sniffers:
                sniffer(target, source, answer)
            self.carry(target, source, lambda: self._deliver_reply(door, address, answer))

        self.carry(source, target, lambda: self._deliver(source, address, payload, reply))

    def _deliver(self, source: str, address: str, payload: bytes, reply: Callable[[bytes], None]) -> None:
        listener = self.listener(address)
        if listener is None or listener.handler is None:
            return
        self._note("message", source, address, payload)
        context = listener.process.context()
        self.loop.call_soon(listener.handler.on_message, payload, reply, context=context)

    def _deliver_reply(self, door: SimNet, address: str, payload: bytes) -> None:
        if door.handler is None or door.process is None or not door.process.is_alive:
            return
        self._note("reply", address, door.host, payload)
        context = door.process.context()
        self.loop.call_soon(door.handler.on_reply, address, payload, context=context)

    def _note(self, kind: str, source: str, target: str, payload: bytes) -> None:
        self._trace.note(self.loop.time(), kind, source, target, len(payload), zlib.crc32(payload))

    # --- calls -----------------------------------------------------------------------------------

    def begin_call(self, door: SimNet, address: str, request: bytes, answer: asyncio.Future[Any]) -> None:
        """Send a request on an open connection; `answer` gets the end of it."""
        listener = self.listener(address)
        source, target = door.host, host_of(address)
        self._call_count += 1
        call_id = self._call_count

        def broken() -> None:
            _settle(answer, None, OutcomeUnknown(f"the connection to {address} broke"))

        def arrive() -> None:
            if listener is None or self.listener(address) is not listener:
                self.carry(target, source, broken, once=True)
                return
            self._note("call", source, address, request)
            listener.breaking[call_id] = lambda: _discard(self.carry(target, source, broken, once=True))
            listener.process.spawn(self._answer(listener, call_id, source, request, answer, broken))

        if not self.carry(source, target, arrive, once=True):
            self.later(self.delay_s(), broken)

    async def _answer(
        self,
        listener: _Listener,
        call_id: int,
        source: str,
        request: bytes,
        answer: asyncio.Future[Any],
        broken: Callable[[], None],
    ) -> None:
        """In the process of the one who answers."""
        method, params = msgpack.unpackb(request, use_list=False, strict_map_key=False)
        error, result = None, None
        try:
            result = await listener.serve(method, params)
        except NeumannError as raised:
            error = rpc.error_to_wire(raised)
        reply = rpc.pack([error, result])
        if listener.breaking.pop(call_id, None) is None:
            return

        def arrive() -> None:
            self._note("answer", listener.address, source, reply)
            failed, value = msgpack.unpackb(reply, use_list=False, strict_map_key=False)
            _settle(answer, value, rpc.error_from_wire(failed) if failed is not None else None)

        if not self.carry(host_of(listener.address), source, arrive, once=True):
            self.later(self.delay_s(), broken)

    def _hang_up(self, listener: _Listener) -> None:
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]
        breaking, listener.breaking = listener.breaking, {}
        for break_it in breaking.values():
            break_it()


class SimNet:
    """See env.doors.Net: one process's door to the network."""

    def __init__(self, network: Network, process: Process | None, host: str) -> None:
        self.process = process
        self.host = host
        self.handler: PeerHandler | None = None
        self.asked_for: set[str] = set()
        """Names of files, and whatever else calls gave as text."""
        self._network = network
        self._connected: dict[str, _Listener] = {}

    def bind(self, handler: PeerHandler) -> None:
        self.handler = handler

    def send(self, address: str, payload: bytes) -> None:
        self._network.send(self, address, payload)

    async def call(self, address: str, method: str, params: list[object], timeout_s: float) -> Any:
        loop = self._network.loop
        deadline_s = loop.time() + timeout_s
        request = rpc.pack([method, params])
        self.asked_for.update(param for param in params if isinstance(param, str))
        await self._connect(address, deadline_s)
        answer: asyncio.Future[Any] = loop.create_future()
        self._network.begin_call(self, address, request, answer)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await answer
        except TimeoutError:
            raise OutcomeUnknown(f"{address} did not answer {method} within {timeout_s:g} s") from None

    async def close(self) -> None:
        self._connected.clear()
        self.handler = None

    async def _connect(self, address: str, deadline_s: float) -> None:
        """Dial, unless a connection to that very listener is open."""
        network, target = self._network, host_of(address)
        listener = network.listener(address)
        if listener is not None and self._connected.get(address) is listener:
            return
        if network.is_cut(self.host, target) or network.is_cut(target, self.host):
            await asyncio.sleep(min(DIAL_TIMEOUT_S, max(0.0, deadline_s - network.loop.time())))
            raise Unavailable(f"{address} can't be reached", remedy="is that node running?")
        await asyncio.sleep(network.delay_s() + network.delay_s())
        listener = network.listener(address)
        if listener is None:
            raise Unavailable(f"{address} can't be reached", remedy="is that node running?")
        self._connected[address] = listener


def _settle(answer: asyncio.Future[Any], result: object, error: NeumannError | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _discard(_: object) -> None:
    """A callback's result that nobody needs."""
