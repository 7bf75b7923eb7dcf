"""The simulated network keeps what doors.Net promises, and breaks no promise that TCP keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

import pytest

from neumann.errors import ConditionFailed, OutcomeUnknown, Unavailable
from tests.sim.loop import Process, SimLoop, current_process
from tests.sim.net import Network, SimNet, Weather
from tests.sim.trace import Trace


class Peer:
    """A toy node: answers every message with its own name, and keeps what it hears."""

    def __init__(self, network: Network, name: str) -> None:
        self.process: Process = network.loop.process(name)
        self.address = f"{name}:7878"
        self.net: SimNet = network.door(self.process, name)
        self.heard: list[bytes] = []
        self.answers: list[tuple[str, bytes]] = []
        self.served = 0
        self.net.bind(self)
        network.listen(self.address, self.process, self.serve, self)

    def on_message(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        assert current_process() is self.process
        self.heard.append(payload)
        reply(self.process.name.encode() + payload)

    def on_reply(self, address: str, payload: bytes) -> None:
        assert current_process() is self.process
        self.answers.append((address, payload))

    async def serve(self, method: str, params: tuple[Any, ...]) -> Any:
        assert current_process() is self.process
        self.served += 1
        if method == "fail":
            raise ConditionFailed("no", remedy="ask better", detail={"row": 1})
        await asyncio.sleep(params[0])
        return [method, *params]


class Pair:
    """Two peers on one network."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop()
        self.trace = Trace()
        self.network = Network(self.loop, Random(seed), self.trace)
        self.a, self.b = Peer(self.network, "a"), Peer(self.network, "b")

    def run(self, script: Callable[[Pair], Coroutine[Any, Any, None]]) -> None:
        self.loop.run(script(self))


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    with pair.loop:
        yield pair


def test_messages_and_replies_keep_their_order(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        for number in range(50):
            pair.a.net.send("b:7878", b"%d" % number)
        await asyncio.sleep(1)

    pair.run(script)
    assert pair.b.heard == [b"%d" % n for n in range(50)]
    assert pair.a.answers == [("b:7878", b"b%d" % n) for n in range(50)]


def test_bad_weather_loses_doubles_and_reorders(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        pair.network.weather = Weather(loss=0.1, duplication=0.1, reorder=True)
        for number in range(500):
            pair.a.net.send("b:7878", b"%d" % number)
        await asyncio.sleep(1)

    pair.run(script)
    heard = [int(payload) for payload in pair.b.heard]
    assert len(set(heard)) < 500, "nothing was lost"
    assert len(heard) > len(set(heard)), "nothing was doubled"
    assert heard != sorted(heard), "nothing was overtaken"


def test_a_cut_has_one_direction(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        pair.network.cut("b", "a")
        pair.a.net.send("b:7878", b"request")
        pair.b.net.send("a:7878", b"never")
        await asyncio.sleep(1)
        assert pair.b.heard == [b"request"]
        assert not pair.a.answers and not pair.a.heard

    pair.run(script)


def test_what_stalled_arrives_after_the_healing(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        pair.network.cut("a", "b")
        for number in range(20):
            pair.a.net.send("b:7878", b"%d" % number)
        await asyncio.sleep(1)
        assert not pair.b.heard
        pair.network.heal()
        await asyncio.sleep(1)
        assert 0 < len(pair.b.heard) < 20

    pair.run(script)


def test_a_reply_reaches_only_the_process_that_asked(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        pair.a.net.send("b:7878", b"x")
        pair.a.process.kill()
        again = Peer(pair.network, "a")
        await asyncio.sleep(1)
        assert pair.b.heard == [b"x"]
        assert not again.answers and not pair.a.answers

    pair.run(script)


def test_calls_and_their_errors(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        call = pair.a.net.call
        assert await call("b:7878", "echo", [0, b"x"], 1.0) == ("echo", 0, b"x")
        with pytest.raises(ConditionFailed) as caught:
            await call("b:7878", "fail", [], 1.0)
        assert (caught.value.remedy, caught.value.detail) == ("ask better", {"row": 1})
        with pytest.raises(OutcomeUnknown, match="did not answer"):
            await call("b:7878", "echo", [5], 1.0)
        with pytest.raises(Unavailable, match="reached"):
            await call("c:7878", "echo", [0], 1.0)

    pair.run(lambda pair: pair.a.process.call(script(pair)))


def test_a_call_over_a_breaking_connection_is_unknown(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        call = asyncio.create_task(pair.a.net.call("b:7878", "echo", [5], 60.0))
        await asyncio.sleep(1)
        began_s = pair.loop.time()
        pair.b.process.kill()
        with pytest.raises(OutcomeUnknown, match="broke"):
            await call
        assert pair.loop.time() - began_s < 1
        with pytest.raises(Unavailable):
            await pair.a.net.call("b:7878", "echo", [0], 60.0)

    pair.run(script)


def test_a_call_into_a_cut(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        pair.network.cut("a", "b")
        with pytest.raises(Unavailable):  # never connected: surely not done
            await pair.a.net.call("b:7878", "echo", [0], 1.0)
        pair.network.heal()
        await pair.a.net.call("b:7878", "echo", [0], 1.0)
        pair.network.cut("b", "a")
        with pytest.raises(OutcomeUnknown):  # connected: the request may have got through
            await pair.a.net.call("b:7878", "echo", [0], 1.0)
        assert pair.b.served == 2

    pair.run(script)


def test_a_call_is_never_doubled(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        pair.network.weather = Weather(loss=0.2, duplication=0.9, reorder=True)
        ended = 0
        for _ in range(200):
            try:
                await pair.a.net.call("b:7878", "echo", [0], 1.0)
                ended += 1
            except OutcomeUnknown:
                continue
        assert 0 < ended <= pair.b.served <= 200

    pair.run(script)


def test_a_call_that_a_cut_held_up_is_not_doubled_either(pair: Pair) -> None:
    async def script(pair: Pair) -> None:
        await pair.a.net.call("b:7878", "echo", [0], 1.0)
        pair.network.weather = Weather(duplication=1.0)
        ended = 1
        for _ in range(30):
            pair.network.cut("a", "b")
            call = asyncio.ensure_future(pair.a.net.call("b:7878", "echo", [0], 1.0))
            await asyncio.sleep(0.1)
            pair.network.mend("a", "b")
            answer: object = (await asyncio.gather(call, return_exceptions=True))[0]
            ended += not isinstance(answer, OutcomeUnknown)
        assert 1 < pair.b.served == ended

    pair.run(script)


def test_the_seed_decides_everything() -> None:
    async def script(pair: Pair) -> None:
        pair.network.weather = Weather(loss=0.1, duplication=0.1, reorder=True)
        for number in range(100):
            pair.a.net.send("b:7878", b"%d" % number)
        await asyncio.sleep(1)

    def digest(seed: int) -> str:
        pair = Pair(seed)
        with pair.loop:
            pair.run(script)
        return pair.trace.digest()

    assert digest(1) == digest(1) != digest(2)
