"""What every engine does with its rows, on the smallest one; and that every engine is one."""

import importlib
from collections.abc import Sequence
from typing import get_type_hints

import pytest

from engines.ipc.job import Failed
from engines.ipc.runner_protocol import Finished, Said
from engines.models.registry import ARCHITECTURES, Architecture
from engines.runner.row_engine import Report, RowEngine, guarded_row
from engines.types.errors import InvalidRequest
from tests.engines.runner.echo_engine import EchoEngine, Words
from tests.promises import promise


def stepped(engine: EchoEngine, most: int = 20) -> list[Report]:
    reports: list[Report] = []
    while not engine.idle and most:
        reports += engine.step()
        most -= 1
    return reports


def ends(reports: Sequence[Report]) -> dict[int, str]:
    """How each request ended; none ends twice."""
    last = [report for report in reports if not isinstance(report, Said)]
    assert len({report.id for report in last}) == len(last)
    return {report.id: type(report).__name__ for report in last}


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.loader.split(".")[-2])
def test_every_engine_keeps_its_rows_in_the_same_way(entry: Architecture) -> None:
    made = get_type_hints(importlib.import_module(entry.loader).engine)["return"]
    assert issubclass(made, RowEngine)
    for name in ("grant", "cancel", "guarded"):
        assert getattr(made, name) is getattr(RowEngine, name)


@promise("core:runner:row-alone")
def test_a_row_that_raises_harms_no_other() -> None:
    engine = EchoEngine()
    engine.submit(1, Words(["a", "explode"]), 9)
    engine.submit(2, Words(["b", "c"]), 9)
    reports = stepped(engine)
    assert ends(reports) == {1: "Failed", 2: "Finished"}
    (failure,) = [report for report in reports if isinstance(report, Failed)]
    assert failure.failure.error().status == 500 and "as it was asked" not in failure.failure.message


def test_a_row_without_credit_waits_and_holds_up_no_other() -> None:
    engine = EchoEngine()
    engine.submit(1, Words(["a", "b"]), 1)
    engine.submit(2, Words(["c", "d"]), 9)
    assert ends(stepped(engine)) == {2: "Finished"}
    assert engine.idle
    engine.grant(3, 5)
    assert engine.idle
    engine.grant(1, 1)
    assert ends(stepped(engine)) == {1: "Finished"}


def test_a_cancelled_row_says_nothing_more() -> None:
    engine = EchoEngine()
    for id in (1, 2):
        engine.submit(id, Words(["a", "b"]), 9)
    engine.step()
    engine.cancel(1)
    engine.cancel(7)
    assert {report.id for report in stepped(engine)} == {2}


def test_where_a_pass_of_several_fails_they_fail_and_the_others_go_on() -> None:
    engine = EchoEngine()
    for id in (1, 2, 3):
        engine.submit(id, Words(["a"]), 9)

    def work() -> list[Report]:
        raise ValueError("of the first two")

    assert ends(engine.guarded(work, [*engine.rows[:2]])) == {1: "Failed", 2: "Failed"}
    assert ends(stepped(engine)) == {3: "Finished"}


def test_what_a_request_did_wrong_is_told_as_that() -> None:
    engine = EchoEngine()
    engine.submit(1, Words(["a"]), 9)

    def work() -> tuple[list[Report], bool]:
        raise InvalidRequest("no such word")

    reports, over = guarded_row(engine.rows[0], work)
    (failure,) = reports
    assert over and isinstance(failure, Failed) and failure.failure.message == "no such word"


@promise("mac:device:no-wrong-text")
def test_a_fault_of_the_device_is_nobodys_alone() -> None:
    engine = EchoEngine()
    engine.submit(1, Words(["a"]), 9)

    def work() -> list[Report]:
        raise RuntimeError("[METAL] Command buffer execution failed: Internal Error")

    with pytest.raises(RuntimeError, match="METAL"):
        engine.guarded(work, engine.rows)
    assert not isinstance(stepped(engine)[0], Finished)
