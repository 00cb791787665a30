"""Tables for people, one line for programs."""

import json

from bench import report
from bench.__main__ import PARTS, arguments_of
from bench.contenders.names import BATCH, MLX_LM, OURS
from bench.goals import Verdict
from bench.session import FigureTable

VERDICTS = [Verdict("fast", 1.0, 0.95, True, "pass"), Verdict("small", None, 110.0, False, "not measured")]
AHEAD = [Verdict("a of other", 1.2, 1.0, False, "short"), Verdict("b of other", 0.5, 1.0, False, "pass")]


def test_the_median_of_the_rounds_is_what_counts() -> None:
    figures = FigureTable()
    for value in (3.0, 1.0, 2.0):
        figures.add("a/rate", OURS, value)
    assert figures.medians() == {"a/rate": {OURS: 2.0}}
    assert figures.values() == {"a/rate": {OURS: [3.0, 1.0, 2.0]}}


def test_caveats_come_first_and_then_figures_and_then_verdicts() -> None:
    values = {"levels/4k/1/rate": {BATCH: [100.0], OURS: [95.0], MLX_LM: [80.0]}}
    text = report.tables(["beware"], values, VERDICTS, AHEAD)
    places = [text.index(word) for word in ("beware", "levels · 4k · 1 · tokens/s", "fast", "a of other")]
    assert places == sorted(places)
    assert "0.95" in text.splitlines()[4]
    assert "Ahead of other servers on 1 of 2 lines" in text
    assert "b of other" not in text


def test_columns_are_aligned_and_who_has_no_figure_has_no_column() -> None:
    values = {"a/rate": {OURS: [1.0]}, "a/first": {OURS: [1.0, 12345.6, 99999.9]}}
    lines = report.tables([], values, [], []).splitlines()[2:5]
    assert len({len(line) for line in lines}) == 1
    assert MLX_LM not in lines[0]
    assert "12,345,600" in lines[2]


def test_the_document_is_one_line_of_json() -> None:
    line = report.document({"verdicts": VERDICTS, "medians": {"a": {OURS: 1.0}}})
    assert "\n" not in line
    assert json.loads(line)["verdicts"][1] == {
        "goal": "small",
        "value": None,
        "bound": 110.0,
        "at_least": False,
        "verdict": "not measured",
    }


def test_all_parts_are_measured_unless_some_are_named() -> None:
    assert arguments_of([]).part.split(",") == list(PARTS)
    assert arguments_of(["--part", "cost,limit"]).part == "cost,limit"
