"""What is to be reached, as data, and the verdict on each. Pure.

A ratio is the median of the rounds' ratios: the two sides of one round met the same machine, those of two did not.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from bench.contenders.names import AUDIO_SERVER, BATCH, BATCH_SMALL, LIBRARY, OTHERS, OURS
from bench.scale import LARGE as LARGE_SHAPE
from bench.scale import label

# Of mlx-lm's batch the better setting: at a level, for all its figures, the one with more tokens a second.
IN_PROCESS = "in process"
SETTINGS = (BATCH, BATCH_SMALL, LIBRARY)
BIGGER_IS_BETTER = frozenset({"rate", "fraction", "gb_per_s", "speed"})
COMPARED = (
    *("levels/", "arrival/", "prefix/", "conversation/first", "conversation/step"),
    *("cost/", "start/ready", "audio/"),
)
SMALL, LARGE = label(4032), label(151_936)
WHOLE = LARGE_SHAPE.label(151_936)

Values = Mapping[str, Mapping[str, Sequence[float]]]  # by figure and contender, one a round
Word = Literal["pass", "short", "not measured"]


class Value(Struct, frozen=True):
    """A figure of a contender."""

    key: str
    contender: str = OURS

    def of(self, values: Values) -> Sequence[float]:
        """One a round; empty where it was not measured."""
        by_name = values.get(self.key, {})
        if self.contender != IN_PROCESS:
            return by_name.get(self.contender, ())
        setting = _better_setting(self.key, values)
        return by_name.get(setting, ()) if setting else ()


def _better_setting(key: str, values: Values) -> str | None:
    parts = key.split("/")
    judged = "/".join([*parts[:-1], "rate"]) if parts[0] == "levels" else key
    found = {name: statistics.median(each) for name, each in values.get(judged, {}).items() if name in SETTINGS}
    if not found:
        return None
    return (max if bigger_is_better(judged) else min)(found, key=lambda name: found[name])


class Goal(Struct, frozen=True):
    """`over` ÷ `under` is to be on one side of a bound; without `under`, `over` itself.

    `eased` is the bound if the goal named `eased_by` is met.
    """

    name: str
    over: Value
    bound: float
    under: Value | None = None
    at_least: bool = False
    eased: float | None = None
    eased_by: str = ""


class Verdict(Struct, frozen=True):
    goal: str
    value: float | None
    bound: float
    at_least: bool
    verdict: Word


def bigger_is_better(key: str) -> bool:
    return key.rsplit("/", 1)[-1] in BIGGER_IS_BETTER


def _against(name: str, key: str, bound: float, *, at_least: bool = False) -> Goal:
    return Goal(name, Value(key), bound, Value(key, IN_PROCESS), at_least)


def _audio(kind: str) -> list[Goal]:
    """One request as fast as the library, and told as soon; several of them faster, and sooner."""
    first = "first_sound" if kind == "qwen3-tts" else "first_text"
    name = first.replace("_", " ")
    return [
        _against(f"speed of {kind}, 1 request, of in process", f"audio/{kind}/1/speed", 0.95, at_least=True),
        _against(f"{name} of {kind}, 1 request, of in process", f"audio/{kind}/1/{first}", 1 / 0.95),
        _against(f"speed of {kind}, 4 requests, of in process", f"audio/{kind}/4/speed", 1.0, at_least=True),
        _against(f"{name} of {kind}, 4 requests, of in process", f"audio/{kind}/4/{first}", 1.0),
    ]


LONG = "audio/qwen3-asr/long recording"
AUDIO_GOALS = (
    *_audio("qwen3-asr"),
    _against("speed of qwen3-asr, a long recording, of in process", f"{LONG}/speed", 0.95, at_least=True),
    _against("first text of qwen3-asr, a long recording, of in process", f"{LONG}/first_text", 1 / 0.95),
    *_audio("whisper"),
    *_audio("qwen3-tts"),
    Goal(
        "p99 gap of a chat while a recording is written down, of the lonely one",
        Value("audio/chat while a recording is written down/gap_times"),
        2.0,
    ),
    Goal(
        "peak memory for an hour, of that for a minute", Value("audio/memory for the second recording/peak_growth"), 1.1
    ),
    Goal(
        "peak memory for 10 hours, of that for a minute",
        Value("audio/memory for the longest recording/peak_growth"),
        1.1,
    ),
)
FIRST_AT_16 = f"first token at 16 streams, {SMALL}, of in process"
GOALS = (
    _against(f"tokens/s at 1 stream, {SMALL}, of in process", f"levels/{SMALL}/1/rate", 0.95, at_least=True),
    _against(f"tokens/s at 4 streams, {SMALL}, of in process", f"levels/{SMALL}/4/rate", 0.95, at_least=True),
    Goal(
        f"tokens/s at 16 streams, {SMALL}, of in process",
        Value(f"levels/{SMALL}/16/rate"),
        0.95,
        Value(f"levels/{SMALL}/16/rate", IN_PROCESS),
        at_least=True,
        eased=0.85,
        eased_by=FIRST_AT_16,
    ),
    _against(f"tokens/s at 16 streams, {LARGE}, of in process", f"levels/{LARGE}/16/rate", 1.5, at_least=True),
    _against(FIRST_AT_16, f"levels/{SMALL}/16/first", 0.6),
    *(
        _against(f"tokens/s at {streams}, {WHOLE}, of in process", f"levels/{WHOLE}/{count}/rate", 0.95, at_least=True)
        for count, streams in ((1, "1 stream"), (4, "4 streams"), (16, "16 streams"))
    ),
    Goal("largest gap while a long prompt arrives, of the lonely p99 gap", Value("arrival/running/gap_ratio"), 3.0),
    Goal(
        "first token, other question behind a long prefix, of the cold one",
        Value("prefix/other question/of_cold"),
        0.05,
    ),
    Goal("first token, the same request again, of the cold one", Value("prefix/same again/of_cold"), 0.03),
    Goal("step time in a conversation, worst stretch, of in process", Value("conversation/worst step_ratio"), 1.1),
    Goal("start to ready, s", Value("start/ready"), 1.5),
    Goal("PSS of the server's process before a model, MB", Value("start/server before a model/pss_mb"), 110.0),
    Goal("PSS of the server's process with a model, MB", Value("start/server with a model/pss_mb"), 110.0),
    Goal("private memory of the server's process over many requests, growth", Value("requests/server/growth"), 1.05),
    Goal("private memory of all processes over many requests, growth", Value("requests/all processes/growth"), 1.05),
    *AUDIO_GOALS,
)


def ahead(values: Values) -> list[Goal]:
    """One goal for every line that another server has as well: to be ahead of it."""
    goals = []
    for key, by_name in values.items():
        if not key.startswith(COMPARED) or OURS not in by_name:
            continue
        for other in (*OTHERS, AUDIO_SERVER):
            if other in by_name:
                name = f"{key} of {other}"
                goals.append(Goal(name, Value(key), 1.0, Value(key, other), bigger_is_better(key)))
    return goals


def judge(goals: Sequence[Goal], values: Values) -> list[Verdict]:
    found = {goal.name: _value(goal, values) for goal in goals}
    by_name = {goal.name: goal for goal in goals}
    verdicts = []
    for goal in goals:
        bound = goal.bound
        if goal.eased is not None and _met(by_name[goal.eased_by], found[goal.eased_by]):
            bound = goal.eased
        value = found[goal.name]
        word: Word = "not measured" if value is None else "pass" if _within(value, bound, goal.at_least) else "short"
        verdicts.append(Verdict(goal.name, value, bound, goal.at_least, word))
    return verdicts


def _met(goal: Goal, value: float | None) -> bool:
    return value is not None and _within(value, goal.bound, goal.at_least)


def _within(value: float, bound: float, at_least: bool) -> bool:
    return value >= bound if at_least else value <= bound


def _value(goal: Goal, values: Values) -> float | None:
    over = goal.over.of(values)
    if goal.under is None:
        return statistics.median(over) if over else None
    return ratio(over, goal.under.of(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> float | None:
    """The median of the rounds' ratios; None where one side was not measured, or was nothing."""
    ratios = [one / other for one, other in zip(over, under, strict=False) if other]
    return statistics.median(ratios) if ratios else None
