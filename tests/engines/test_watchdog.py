import pytest

from engines.watchdog import FIRST_SECONDS, Facts, answers, verdict


@pytest.mark.parametrize(
    ("facts", "silent", "expected"),
    [
        (Facts("ready", False, 0.0, True, 1.0), 9999.0, "well"),
        (Facts("ready", True, 0.0, True, 1.0), 9.0, "well"),
        (Facts("ready", True, 0.0, True, 1.0), 11.0, "late"),
        (Facts("ready", True, 0.0, True, 1.0), 61.0, "stuck"),
        (Facts("ready", True, 0.0, True, 1.0), 60.0, "late"),
        (Facts("ready", True, 100.0, True, 1.0), 109.0, "well"),
        (Facts("ready", True, 0.0, True, 20.0), 199.0, "late"),
        (Facts("ready", True, 0.0, True, 20.0), 201.0, "stuck"),
        (Facts("ready", True, 0.0, False, 0.0), 299.0, "well"),
        (Facts("ready", True, 0.0, False, 0.0), 301.0, "stuck"),
        (Facts("ready", False, 0.0, False, 0.0), 9999.0, "well"),
        (Facts("loading", False, 0.0, False, 0.0), 299.0, "well"),
        (Facts("loading", False, 0.0, False, 0.0), 301.0, "stuck"),
        (Facts("loading", True, 0.0, True, 1.0), 299.0, "well"),
    ],
)
def test_a_busy_runner_is_judged_by_its_last_step(facts: Facts, silent: float, expected: str) -> None:
    assert verdict(facts, silent) == expected


def test_a_tokenizer_is_waited_for_as_long_as_a_load() -> None:
    assert answers(100.0, 100.0 + FIRST_SECONDS)
    assert not answers(100.0, 100.1 + FIRST_SECONDS)
