"""Verdicts follow from medians."""

from bench.contenders.names import BATCH, BATCH_SMALL, MLX_LM, OURS
from bench.goals import GOALS, IN_PROCESS, Goal, Value, Values, Verdict, ahead, judge
from bench.report import UNITS


def verdict(goal: Goal, medians: dict[str, dict[str, float]], *more: Goal) -> Verdict:
    return judge([goal, *more], once(medians))[0]


def once(medians: dict[str, dict[str, float]]) -> Values:
    """Of one round."""
    return {key: {name: [value] for name, value in by_name.items()} for key, by_name in medians.items()}


RATE = Goal("rate", Value("a/rate"), 0.95, Value("a/rate", IN_PROCESS), at_least=True)
FIRST = Goal("first", Value("a/first"), 0.6, Value("a/first", IN_PROCESS))


def test_in_process_is_the_better_setting() -> None:
    medians = {"a/rate": {BATCH: 100.0, BATCH_SMALL: 80.0}, "a/first": {BATCH: 4.0, BATCH_SMALL: 2.0}}
    assert Value("a/rate", IN_PROCESS).of(once(medians)) == [100.0]
    assert Value("a/first", IN_PROCESS).of(once(medians)) == [2.0]


def test_at_a_level_the_setting_with_more_tokens_a_second_counts_for_every_figure() -> None:
    level = {"rate": {BATCH: 100.0, BATCH_SMALL: 80.0}, "first": {BATCH: 4.0, BATCH_SMALL: 2.0}}
    values = once({f"levels/4k/16/{line}": by_name for line, by_name in level.items()})
    assert Value("levels/4k/16/first", IN_PROCESS).of(values) == [4.0]


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine that was half as fast in one round changes both sides, and no ratio."""
    values = {"a/rate": {BATCH: [100.0, 50.0, 100.0], OURS: [96.0, 48.0, 40.0]}}
    assert judge([RATE], values)[0].value == 0.96


def test_a_rate_must_be_high_and_a_time_low() -> None:
    medians = {"a/rate": {BATCH: 100.0, OURS: 96.0}, "a/first": {BATCH: 1.0, OURS: 0.7}}
    assert verdict(RATE, medians).verdict == "pass"
    assert verdict(FIRST, medians).verdict == "short"


def test_what_one_side_lacks_is_not_measured() -> None:
    assert verdict(RATE, {}).verdict == "not measured"
    assert verdict(RATE, {"a/rate": {OURS: 1.0}}).verdict == "not measured"


def test_a_bound_is_eased_only_where_the_other_goal_is_met() -> None:
    eased = Goal("rate", Value("a/rate"), 0.95, Value("a/rate", BATCH), True, eased=0.85, eased_by="first")
    rates = {BATCH: 100.0, OURS: 90.0}
    assert verdict(eased, {"a/rate": rates, "a/first": {BATCH: 1.0, OURS: 0.5}}, FIRST).verdict == "pass"
    assert verdict(eased, {"a/rate": rates, "a/first": {BATCH: 1.0, OURS: 0.7}}, FIRST).verdict == "short"
    assert verdict(eased, {"a/rate": rates}, FIRST).verdict == "short"


def test_a_goal_without_a_second_value_is_the_figure_itself() -> None:
    ready = Goal("ready", Value("start/ready"), 1.5)
    assert verdict(ready, {"start/ready": {OURS: 1.2}}).value == 1.2


def test_ahead_asks_for_more_where_more_is_better_and_only_where_both_were_measured() -> None:
    medians = {
        "levels/4k/1/rate": {OURS: 10.0, MLX_LM: 8.0},
        "levels/4k/1/first": {OURS: 10.0, MLX_LM: 8.0},
        "levels/4k/4/first": {OURS: 10.0},
        "limit/4k/fraction": {OURS: 0.5, MLX_LM: 0.6},
    }
    assert [one.verdict for one in judge(ahead(once(medians)), once(medians))] == ["pass", "short"]


def test_every_goal_has_a_name_of_its_own_and_figures_that_can_be_shown() -> None:
    assert len({goal.name for goal in GOALS}) == len(GOALS)
    for goal in GOALS:
        assert goal.over.key.rsplit("/", 1)[-1] in UNITS
        assert not goal.eased_by or goal.eased_by in {other.name for other in GOALS}
