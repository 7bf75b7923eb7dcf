"""One statement over a real store: its columns and cells, what it costs, its limits and its refusals."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neumann.errors import BadInput, Corrupt, NeumannError, TooLarge
from neumann.format.command import pack_value, row_key
from neumann.query import columns
from neumann.query.columns import COLUMNS_MAX
from neumann.query.statement import run
from neumann.store.view import View
from tests.query.state import INDEX, State, ask, nothing, rows_of

CITIES = {
    "berlin": {"name": "Berlin", "country": "DE", "population": 3_426_354},
    "paris": {"name": "Paris", "country": "FR", "population": 2_138_551},
    "ulm": {"name": "Ulm", "country": "DE", "population": 120_451, "Nickname": "the spire"},
}


@pytest.fixture
def view(tmp_path: Path) -> View:
    state = State()
    for key, value in CITIES.items():
        state.put("cities", key, value)
    return state.view(tmp_path)


class Counting(View):
    """Counts the rows and points that are read of it."""

    def __init__(self, view: View) -> None:
        super().__init__(view._newest, view._frozen, view._tables)
        self.rows = self.points = 0

    def runs(self, *args: Any, **options: Any) -> Any:
        for run_ in super().runs(*args, **options):
            self.rows += len(run_.keys)
            yield run_

    def get(self, row: str) -> Any:
        self.points += 1
        return super().get(row)


# --- columns and cells ----------------------------------------------------------------------------


def test_the_columns_of_a_table(view: View) -> None:
    found = ask(view, "SELECT * FROM cities WHERE country = 'DE' ORDER BY population")
    assert found.columns == ["key", "revision", "time", "name", "country", "population", "Nickname"]
    assert found.rows == [
        ("ulm", 3, "1970-01-01T00:00:03.000000000Z", "Ulm", "DE", 120_451, "the spire"),
        ("berlin", 1, "1970-01-01T00:00:01.000000000Z", "Berlin", "DE", 3_426_354, None),
    ]
    assert found.index == INDEX
    assert ask(view, "SELECT nickname FROM cities WHERE NAME = 'Ulm'")[:2] == (["Nickname"], [("the spire",)])
    assert ask(view, "SELECT name FROM cities WHERE 0") == (["name"], [], INDEX)


def test_cells(tmp_path: Path) -> None:
    cells: list[tuple[Any, Any]] = [
        (None, None),
        (True, 1),
        (False, 0),
        (-(2**63), -(2**63)),
        (2**64 - 1, float(2**64 - 1)),
        (1.5, 1.5),
        ("é\0京", "é\0京"),
        (b"\0\xff", b"\0\xff"),
        ([1, None, {"a": b"x"}], '[1,null,{"a":{"$bytes":"eA=="}}]'),
        ({"é": True}, '{"é":true}'),
        ({1: 2}, '{"$map":[[1,2]]}'),
    ]
    state = State()
    for number, (value, _) in enumerate(cells):
        state.put("t", f"{number:02}", {"field": value})
        if not isinstance(value, dict) or 1 in value:
            state.put("plain", f"{number:02}", value)
    view = state.view(tmp_path)
    assert rows_of(view, "SELECT field FROM t ORDER BY key") == [(cell,) for _, cell in cells]
    plain = [(cell,) for value, cell in cells if not isinstance(value, dict) or 1 in value]
    assert rows_of(view, "SELECT value FROM plain ORDER BY key") == plain
    assert rows_of(view, "SELECT field ->> '$[2].a.$bytes' FROM t WHERE key = '08'") == [("eA==",)]


def test_fields_whose_names_are_taken_or_odd(tmp_path: Path) -> None:
    state = State()
    state.put("odd table", "a", {"key": 1, "Time": 2, "": 3, 'with "quotes"': 4, "*": 5, "select": 6})
    state.put("odd table", "b", {"Name": 7, "nul\0": 8})
    state.put("odd table", "c", {"name": 9, "value": 10})
    state.put("odd table", "d", 11)
    view = state.view(tmp_path)
    found = ask(view, 'SELECT * FROM "odd table" ORDER BY key')
    assert found.columns == [
        *("key", "revision", "time", "_key", "_Time", "_", 'with "quotes"', "*", "select", "Name", "value")
    ]
    assert [row[3:] for row in found.rows] == [
        (1, 2, 3, 4, 5, 6, None, None),
        (None, None, None, None, None, None, 7, None),
        (None, None, None, None, None, None, 9, 10),
        (None, None, None, None, None, None, None, 11),
    ]
    named = 'SELECT _key, _time, "_", "with ""quotes""", [select], NAME, value FROM "odd table" ORDER BY key'
    assert rows_of(view, named) == [row[3:7] + row[8:] for row in found.rows]


def test_names_mean_what_all_fields_make_them_mean(tmp_path: Path) -> None:
    """A word of a statement that is no field must not hide the alias or the outer column of that name."""
    state = State()
    state.put("cities", "ulm", {"name": "Ulm", "outer": 1})
    state.put("lists", "x", {"entry": 1})
    view = state.view(tmp_path)
    assert rows_of(view, "SELECT name AS entry FROM cities WHERE entry = 'Ulm'") == [("Ulm",)]
    assert rows_of(view, "SELECT (SELECT name FROM lists) FROM cities") == [("Ulm",)]
    assert rows_of(view, "SELECT name, entry FROM cities, lists") == [("Ulm", 1)]
    assert rows_of(view, "SELECT 'entry', name FROM cities") == [("entry", "Ulm")]
    with pytest.raises(BadInput, match="ambiguous column name: key"):
        ask(view, "SELECT key FROM cities, lists")
    with pytest.raises(BadInput, match="no such column: entry; cities has key, revision, time, name, outer"):
        ask(view, "SELECT entry FROM cities")


def test_a_table_with_more_fields_than_sql_has_columns(tmp_path: Path) -> None:
    state = State()
    for number in range(0, COLUMNS_MAX + 10, 10):
        state.put("wide", f"{number:05}", {f"f{n}": n for n in range(number, number + 10)})
    view = state.view(tmp_path)
    with pytest.raises(BadInput, match=f"wide have {COLUMNS_MAX + 10} fields, and SQL takes {COLUMNS_MAX}"):
        ask(view, "SELECT * FROM wide")
    assert rows_of(view, f"SELECT f{COLUMNS_MAX} FROM wide WHERE f{COLUMNS_MAX} > 0") == [(COLUMNS_MAX,)]
    assert rows_of(view, "SELECT COUNT(*) FROM wide") == [(COLUMNS_MAX // 10 + 1,)]


# --- what it costs --------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Counting:
    state = State()
    for number in range(2000):
        state.put("many", f"{number:04}", {"n": number, "next": f"{(number + 1) % 2000:04}"})
    state.put("zebra", "x", {})
    return Counting(state.view(tmp_path))


@pytest.mark.parametrize(
    ("sql", "found", "points_max", "rows_max"),
    [
        ("SELECT n FROM many WHERE key = '0007'", [(7,)], 1, 600),
        ("SELECT key FROM many WHERE key IN ('1999', 'x', '0001')", [("0001",), ("1999",)], 3, 0),
        ("SELECT key FROM many WHERE key > '1000' AND key <= '1002'", [("1001",), ("1002",)], 0, 10),
        ("SELECT key FROM many WHERE key BETWEEN '1998' AND 'x'", [("1998",), ("1999",)], 0, 10),
        ("SELECT key FROM many ORDER BY key DESC LIMIT 2", [("1999",), ("1998",)], 0, 600),
        ("SELECT b.n FROM many a JOIN many b ON b.key = a.next WHERE a.key = '0004'", [(5,)], 2, 1200),
        ("SELECT MAX(key) FROM many WHERE key < '0500'", [("0499",)], 0, 600),
        ("SELECT key FROM many WHERE key > '3' AND key < '1'", [], 0, 0),
        ("SELECT key FROM many WHERE key = NULL", [], 0, 0),
    ],
)
def test_comparisons_of_the_key_are_pushed_down(
    many: Counting, sql: str, found: list[Any], points_max: int, rows_max: int
) -> None:
    assert rows_of(many, sql) == found
    assert many.points <= points_max
    assert many.rows <= rows_max


def test_the_order_of_the_key_costs_no_sort(many: Counting) -> None:
    for order in ("key", "key DESC", "key, n"):
        plan = str(rows_of(many, f"EXPLAIN QUERY PLAN SELECT * FROM many ORDER BY {order}"))
        assert "B-TREE" not in plan
    assert "B-TREE" in str(rows_of(many, "EXPLAIN QUERY PLAN SELECT * FROM many ORDER BY n"))


def test_counting_decodes_no_value(many: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> None:
        raise AssertionError("a value was decoded")

    monkeypatch.setattr(columns, "unpack_value", never)
    assert rows_of(many, "SELECT COUNT(*) FROM many") == [(2000,)]
    assert rows_of(many, "SELECT COUNT(*), MAX(revision) FROM many WHERE key > '1'") == [(1000, 2000)]


# --- limits ---------------------------------------------------------------------------------------


def test_rows_are_bounded(many: Counting) -> None:
    assert len(ask(many, "SELECT key FROM many", rows_max=2000).rows) == 2000
    with pytest.raises(TooLarge, match="more than 1999 rows; LIMIT"):
        ask(many, "SELECT key FROM many", rows_max=1999)


def test_bytes_are_bounded(view: View) -> None:
    with pytest.raises(TooLarge, match="bytes in 16 rows"):
        ask(view, f"SELECT zeroblob(1048576) FROM ({' UNION ALL '.join(['SELECT key FROM cities'] * 7)})")
    with pytest.raises(TooLarge, match="too big"):
        ask(view, "SELECT LENGTH(randomblob(1000000000))")


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n",
        "SELECT COUNT(*) FROM many a, many b, many c",
        "SELECT * FROM many",
        "SELECT missing FROM many",
    ],
)
def test_a_check_ends_a_query_wherever_it_is(many: Counting, sql: str) -> None:
    calls = itertools.count(1)

    def soon_over() -> None:
        if next(calls) == 3:
            raise TooLarge("time is over")

    with pytest.raises(TooLarge, match="time is over"):
        run(many, INDEX, sql, (), rows_max=10_000, check=soon_over)


def test_a_value_that_is_nested_too_deeply(tmp_path: Path) -> None:
    value: Any = []
    for _ in range(900):
        value = [value]
    state = State()
    state.put("t", "deep", {"field": value, "other": 1})
    view = state.view(tmp_path)
    with pytest.raises(BadInput, match="nested too deeply"):
        ask(view, "SELECT field FROM t")
    assert rows_of(view, "SELECT other FROM t") == [(1,)]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT COUNT(*) FROM ...", "write a table's name in place of ...; tables here: cities"),
        ("SELECT * FROM towns", "there is no table towns; tables here: cities"),
        ("SELECT populaton FROM cities", "no such column: populaton; cities has key, revision, time, name"),
        ("SELECT '...' FROM towns", "there is no table towns; tables here: cities"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("SELECT 1; SELECT 2", "a second statement begins at 'SELECT 2'"),
        ("SELECT ?", "bindings"),
        ("SELECT nonsense(1)", "no such function: nonsense"),
        ('SELECT * FROM cities WHERE name = "Ulm"', "single-quotes"),
        ("DELETE FROM cities", "may not be modified"),
        ("UPDATE cities SET name = 'x'", "may not be modified"),
        ("INSERT INTO cities VALUES ('x')", "reads rows and does nothing else"),
        ("DROP TABLE cities", "reads rows and does nothing else"),
        ("CREATE TABLE t (x)", "reads rows and does nothing else"),
        ("CREATE TEMP VIEW v AS SELECT 1", "reads rows and does nothing else"),
        ("ATTACH '/tmp/x' AS x", "reads rows and does nothing else"),
        ("VACUUM INTO '/tmp/x'", "reads rows and does nothing else"),
        ("PRAGMA user_version = 1", "reads rows and does nothing else"),
        ("SELECT * FROM pragma_database_list", "reads rows and does nothing else"),
        ("SELECT name FROM sqlite_master", "reads rows and does nothing else; tables here: cities"),
        ("BEGIN", "reads rows and does nothing else"),
        ("SELECT load_extension('x')", "not authorized"),
        ("SELECT '\ud800'", "is no Unicode text"),
        ("SELECT 1\0", "has a NUL in it"),
    ],
)
def test_refusals(view: View, sql: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        ask(view, sql)
    assert said in str(refused.value)


def test_a_comment_behind_the_statement_is_none(view: View) -> None:
    assert rows_of(view, "SELECT 1; -- done\n /* really */ ;") == [(1,)]


def test_no_table_at_all() -> None:
    with pytest.raises(BadInput, match="there is no table cities; no table has a row here"):
        ask(View({}, (), ()), "SELECT * FROM cities")


def test_tables_that_differ_only_in_case(tmp_path: Path) -> None:
    state = State()
    for table in ("Cities", "cities", "other"):
        state.put(table, "ulm", {})
    view = state.view(tmp_path)
    with pytest.raises(BadInput, match="the tables Cities, cities differ only in case"):
        ask(view, "SELECT COUNT(*) FROM cities")
    assert rows_of(view, "SELECT COUNT(*) FROM OTHER") == [(1,)]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ((2**63,), "beyond 64 bits"),
        (([1],), "no number, text, bytes or null"),
        (("\ud800",), "no Unicode text"),
        ({"b": 1}, "a parameter 'a', and none of that name"),
        ({"a": {}}, "no number, text, bytes or null"),
    ],
)
def test_parameters_that_are_none(view: View, params: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ask(view, "SELECT :a" if isinstance(params, dict) else "SELECT ?", params)


def test_parameters(view: View) -> None:
    assert rows_of(view, "SELECT ?, ?, ?, ?, ?", (1, 2.5, "a", b"b", None)) == [(1, 2.5, "a", b"b", None)]
    named = {"country": "DE", "least": 200_000, "unused": 0}
    sql = "SELECT key FROM cities WHERE country = :country AND population > $least"
    assert rows_of(view, sql, named) == [("berlin",)]


def test_damage_is_told_as_what_it_is(tmp_path: Path) -> None:
    state = State()
    for number in range(100):
        state.put("t", f"{number:03}", {"n": number})
    view = state.view(tmp_path)
    for path in tmp_path.glob("*.table"):
        content = bytearray(path.read_bytes())
        content[30] ^= 1
        path.write_bytes(content)
    with pytest.raises(Corrupt):
        ask(view, "SELECT COUNT(*) FROM t")


def test_without_apsw_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['apsw'] = None\n"
        "from neumann.query.statement import run\n"
        "from neumann.store.view import View\n"
        "try: run(View({}, (), ()), 0, 'SELECT 1', (), rows_max=1, check=lambda: None)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "NeumannError apsw is not installed; pip install 'neumann[sql]'\n"
    assert NeumannError.exit_code == 1


def test_a_deleted_row_is_in_no_answer() -> None:
    rows = {row_key("t", "a"): (pack_value({}), 1, 1), row_key("t", "b"): (None, 2, 2)}
    view = View(rows, (), ())
    assert rows_of(view, "SELECT key FROM t") == rows_of(view, "SELECT key FROM t WHERE key > ''") == [("a",)]
    assert rows_of(view, "SELECT key FROM t WHERE key = 'b'") == []
    assert run(view, 2, "SELECT 1", (), rows_max=1, check=nothing).index == 2
