import pytest

from engines.ipc.liveness import Facts, verdict, worst

NOTHING = Facts(None)
STEP = Facts(0.0, slowest_step=1.0)
LONG_STEP = Facts(0.0, slowest_step=20.0)
FIRST = Facts(0.0, is_first=True)


@pytest.mark.parametrize(
    ("facts", "now", "expected"),
    [
        (NOTHING, 9999.0, "well"),
        (STEP, 9.0, "well"),
        (STEP, 11.0, "late"),
        (STEP, 60.0, "late"),
        (STEP, 61.0, "stuck"),
        (Facts(100.0), 109.0, "well"),
        (LONG_STEP, 199.0, "late"),
        (LONG_STEP, 201.0, "stuck"),
        (FIRST, 299.0, "well"),
        (FIRST, 301.0, "stuck"),
    ],
)
def test_a_runner_is_judged_by_how_long_it_owes_a_sign_of_life(facts: Facts, now: float, expected: str) -> None:
    assert verdict(facts, now) == expected


def test_who_owes_several_things_is_judged_by_the_worst() -> None:
    assert worst([]) == "well"
    assert worst(["late", "stuck", "well"]) == "stuck"
