"""Tables for people and one document for programs. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bench.contenders.names import AUDIO_SERVER, BATCH, BATCH_SMALL, LIBRARY, OTHERS, OURS
from bench.goals import IN_PROCESS, Value, Values, Verdict, ratio

COLUMNS = (BATCH, BATCH_SMALL, LIBRARY, OURS, *OTHERS, AUDIO_SERVER, "device")
# The last part of a figure's name → how it is shown: the unit, the factor, the digits.
UNITS: Mapping[str, tuple[str, float, int]] = {
    "rate": ("tokens/s", 1, 1),
    "first": ("first token, ms", 1e3, 0),
    "step": ("step, ms", 1e3, 1),
    "gap_p50": ("gap p50, ms", 1e3, 1),
    "gap_p99": ("gap p99, ms", 1e3, 1),
    "gap_max": ("largest gap, ms", 1e3, 0),
    "gap_ratio": ("largest gap ÷ lonely p99", 1, 2),
    "of_cold": ("first token ÷ cold", 1, 3),
    "worst step_ratio": ("worst stretch's step ÷ batch's", 1, 2),
    "ready": ("ready, s", 1, 2),
    "pss_mb": ("PSS, MB", 1, 1),
    "growth": ("last ÷ after a third", 1, 3),
    "cpu": ("processor ms a token", 1e3, 2),
    "fraction": ("of the bandwidth", 1, 2),
    "gb_per_s": ("GB/s", 1, 1),
    "speed": ("× real time", 1, 1),
    "first_text": ("first text, ms", 1e3, 0),
    "first_sound": ("first sound, ms", 1e3, 0),
    "sound_cpu": ("processor ms a second of sound", 1e3, 0),
    "gap_times": ("gap p99 ÷ alone", 1, 2),
    "peak_mb": ("peak, MB", 1, 0),
    "peak_growth": ("peak ÷ that of the shortest", 1, 3),
    "takes": ("s", 1, 1),
}


def tables(caveats: Sequence[str], values: Values, verdicts: Sequence[Verdict], ahead: Sequence[Verdict]) -> str:
    """Caveats first."""
    parts = ["Read this first:", *(f"- {caveat}" for caveat in caveats), "", *_figures(values), ""]
    parts += ["To reach:", *_verdicts(verdicts)]
    if ahead:
        behind = [verdict for verdict in ahead if verdict.verdict == "short"]
        parts += ["", f"Ahead of other servers on {len(ahead) - len(behind)} of {len(ahead)} lines"]
        parts += ["Behind on:", *_verdicts(behind)] if behind else []
    return "\n".join(parts) + "\n"


def _figures(values: Values) -> list[str]:
    names = [name for name in COLUMNS if any(name in by_name for by_name in values.values())]
    rows = [["", *names, f"{OURS} ÷ {IN_PROCESS}"]]
    for key, by_name in values.items():
        unit, factor, digits = UNITS[key.rsplit("/", 1)[-1]]
        title = " · ".join([*key.split("/")[:-1], unit])
        cells = [
            f"{statistics.median(by_name[name]) * factor:,.{digits}f}" if name in by_name else "" for name in names
        ]
        rows.append([title, *cells, _ratio(key, values)])
    return _aligned(rows)


def _ratio(key: str, values: Values) -> str:
    found = ratio(Value(key).of(values), Value(key, IN_PROCESS).of(values))
    return "" if found is None else f"{found:.2f}"


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    rows = []
    for verdict in verdicts:
        value = "" if verdict.value is None else f"{verdict.value:.3f}"
        rows.append([verdict.goal, value, f"{'≥' if verdict.at_least else '≤'} {verdict.bound:g}", verdict.verdict])
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def document(fields: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return msgspec.json.encode(dict(fields)).decode()
