"""Fields of decoded records: counts, types and signs, one by one and in bulk."""

from __future__ import annotations

from typing import Any

import pytest

from neumann.format.fields import check_rows, checked

GOOD = (1, 0, 3)


@pytest.mark.parametrize(
    "bad", [(1, 0), (1, 0, 3, 4), (1, True, 3), (1, -1, 3), (1, "0", 3), (1, 0.0, 3), [1, 0, 3], "abc", None]
)
def test_many_rows_are_checked_as_one_is(bad: Any) -> None:
    types = (int, int, int)
    assert checked(GOOD, types) == GOOD
    check_rows((), types)
    check_rows((GOOD,) * 5, types)
    check_rows(((1, "a", ()), (2, "b", (7,))), (int, str, tuple))
    with pytest.raises(ValueError):
        checked(bad, types)
    for rows in ((bad,), (GOOD, bad), (bad, GOOD)):
        with pytest.raises(ValueError):
            check_rows(rows, types)
