"""A history is read back as it was written."""

from __future__ import annotations

import io

import pytest

from tests.history.record import DELETE, GET, NEVER_NS, PUT, REPLACE, Operation, Outcome, Recorder, read


def test_it_comes_back() -> None:
    file = io.StringIO()
    recorder = Recorder(file, seed=7)
    put = recorder.invoke(10, "c1", "n2", PUT, "k", "v1")
    get = recorder.invoke(11, "c2", "n1", GET, "k")
    recorder.fault(12, "kill", nodes=["n1"])
    recorder.ok(put, 13, 5)
    recorder.ok(get, 14, 5, "v1")
    replace = recorder.invoke(15, "c1", "n2", REPLACE, "k", "v2", if_revision=4)
    recorder.condition_failed(replace, 16, 6)
    delete = recorder.invoke(17, "c1", "n2", DELETE, "k")
    recorder.refused(delete, 18, "no leader")
    unknown = recorder.invoke(19, "c1", "n2", PUT, "k", "v3")
    recorder.unknown(unknown, 20, "the connection broke")
    recorder.invoke(21, "c1", "n2", PUT, "k", "v4")
    assert read(file.getvalue().splitlines()) == [
        Operation(1, "c1", "n2", PUT, "k", 10, "v1", 0, 13, Outcome.OK, 5),
        Operation(2, "c2", "n1", GET, "k", 11, "v1", 0, 14, Outcome.OK, 5),
        Operation(3, "c1", "n2", REPLACE, "k", 15, "v2", 4, 16, Outcome.CONDITION, 6),
        Operation(4, "c1", "n2", DELETE, "k", 17, "", 0, 18, Outcome.REFUSED, 0),
        Operation(5, "c1", "n2", PUT, "k", 19, "v3", 0, NEVER_NS, Outcome.UNKNOWN, 0),
        Operation(6, "c1", "n2", PUT, "k", 21, "v4", 0, NEVER_NS, Outcome.UNKNOWN, 0),
    ]


@pytest.mark.parametrize("lines", [[], ["{}"], ['{"event":"begin","format":2}']])
def test_what_is_no_history(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="no history"):
        read(lines)
