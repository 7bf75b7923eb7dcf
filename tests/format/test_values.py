"""Every value that can be stored goes through JSON and comes back as the same bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neumann.errors import BadInput
from neumann.format import values
from neumann.format.command import pack_value

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**34), st.integers(0, 10**9 - 1))
)
_KEYS = st.text(st.characters(exclude_categories=["Cs"])) | st.integers(0, 9) | st.binary(max_size=4)
_TAGS = st.sampled_from(["$bytes", "$ext", "$map", "$float", "$other"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | _TAGS, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_there_and_back(value: Any) -> None:
    packed = pack_value(value)
    text = json.dumps(values.to_json(packed), allow_nan=False).encode()
    assert values.from_json(values.parse(text)) == packed


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_floats_that_json_lacks(number: float) -> None:
    shown = values.to_json(pack_value(number))
    assert shown == {"$float": str(number)}
    assert str(msgpack.unpackb(values.from_json(shown))) == str(number)


@pytest.mark.parametrize(
    "value",
    [
        {"$bytes": "not base64!"},
        {"$bytes": 5},
        {"$float": "many"},
        {"$float": []},
        {"$ext": [1]},
        {"$ext": ["x", ""]},
        {"$ext": [500, ""]},
        {"$ext": [-1, "AAE="]},
        {"$map": 5},
        {"$map": [[1]]},
        {"$map": [[[1, 2], 3]]},
        2**64,
        -(2**63) - 1,
        "\ud800",
    ],
)
def test_what_can_not_be_stored(value: Any) -> None:
    with pytest.raises(BadInput):
        values.from_json(value)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"1 2", b"9" * 5000, b"[" * 100_000, b'{"a":' * 5000]
)
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        values.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadInput):
        values.from_json(deep)
