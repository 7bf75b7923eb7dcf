"""How rounds become a ratio, and which questions there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import Answers, questions
from bench.harness.compare import Result
from bench.harness.load import Figures, LoadFailed, Missing
from bench.harness.stage import OURS, THEIRS, Stage
from tests.procedures.process import StartFailed


def figures(rate: float, p50_ms: float = 1.0, max_ms: float = 9.0) -> Figures:
    return Figures(rate, p50_ms, p99_ms=5.0, max_ms=max_ms, cpu_us=20.0)


def test_the_ratio_is_the_median_over_neighbouring_rounds() -> None:
    # The machine halved its speed after the first pair: medians over the sides would say otherwise.
    rounds = (
        {OURS: figures(100), THEIRS: figures(10)},
        {OURS: figures(50), THEIRS: figures(5)},
        {OURS: figures(60), THEIRS: figures(5)},
    )
    result = Result("q", "rate", "etcd", rounds)
    assert result.ratio == 10
    assert result.side(OURS) == figures(60)
    assert result.to_json()["theirs"]["rate"] == 5
    assert json.loads(json.dumps(result.to_json())) == result.to_json()


def test_a_shorter_latency_is_a_higher_ratio_and_the_worst_maximum_counts() -> None:
    rounds = [{OURS: figures(1, p50_ms=0.5, max_ms=ms), THEIRS: figures(1)} for ms in (3, 70, 4)]
    result = Result("q", "p50_ms", "etcd", tuple(rounds))
    assert result.ratio == 2
    assert result.ratio_line().endswith("2.00x against etcd, p50_ms (0.50 of its)")
    ours = result.side(OURS)
    assert ours is not None and ours.max_ms == 70


def test_the_json_of_a_result() -> None:
    seen = Result("q", "rate", "etcd", ({OURS: figures(100), THEIRS: figures(10)},)).to_json()
    assert seen.keys() == {"name", "ours", "peer", "theirs", "ratio", "rounds"}
    assert seen["rounds"] == [{"ours": seen["ours"], "theirs": seen["theirs"]}]
    assert seen["ours"].keys() == {"rate", "p50_ms", "p99_ms", "max_ms", "cpu_us"}


@pytest.mark.parametrize(
    "failure", [LoadFailed("wrong answer"), StartFailed("n1 ended"), TimeoutError("slow")]
)
def test_a_question_that_fails_loses_no_other(tmp_path: Path, failure: Exception) -> None:
    def fails(_: Stage) -> Result:
        raise failure

    def lacks(_: Stage) -> Result:
        raise Missing("golang-go")

    file = tmp_path / "out.json"
    answers = Answers(file)
    stage = Stage(tmp_path)
    answers.ask("a", lambda _: Result("a", "rate", "etcd", ({OURS: figures(1)},)), stage)
    answers.ask("b", fails, stage)
    answers.ask("c", lacks, stage)
    answers.ask("d", lambda _: Result("d", "rate", "etcd", ({OURS: figures(1)},)), stage)
    assert [one["name"] for one in json.loads(file.read_text())] == ["a", "d"]
    assert answers.failures == [f"b failed: {failure}"]


def test_one_side_alone_has_no_ratio() -> None:
    result = Result("q", "rate", "etcd", ({THEIRS: figures(10)},))
    assert result.ratio is None
    assert result.side(OURS) is None
    assert result.to_json()["ours"] is None


@pytest.mark.parametrize("name", questions())
def test_a_question_says_what_it_measures(name: str) -> None:
    meaning = questions()[name].__doc__.splitlines()
    assert len(meaning) == 1 and meaning[0].endswith(".")


def test_the_questions() -> None:
    asked = {"put_pipelined", "put_single", "put_connections", "get_linearizable", "bulk_load", "http_kv"}
    assert asked <= questions().keys()
