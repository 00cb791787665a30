"""How a checkpoint's makers would have it sampled, from its generation_config.json. Pure.

As transformers, whose format it is, takes it. `do_sample` false means the likeliest token always, whatever
temperature stands beside it; where it is missing, the other values say how to sample, as in vLLM.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from engines.types.chat import Sampling

# name: the least and the most; whether the least itself is out; whether it is a whole number
_RANGES: Mapping[str, tuple[float, float, bool, bool]] = {
    "temperature": (0, 2, False, False),
    "top_p": (0, 1, True, False),
    "top_k": (-1, 2**31, False, True),
    "min_p": (0, 1, False, False),
    "presence_penalty": (-2, 2, False, False),
    "frequency_penalty": (-2, 2, False, False),
    "repetition_penalty": (0, 10, True, False),
}
NAMES = tuple(_RANGES)


class SamplingDefaults(msgspec.Struct, frozen=True):
    """`values` hold where a client gives none; `refused` says in words which of the file's are out of range."""

    values: tuple[tuple[str, float | int], ...] = ()
    refused: tuple[str, ...] = ()


def of(generation: Mapping[str, Any]) -> SamplingDefaults:
    """From the content of generation_config.json. Null is as good as absent."""
    given = {name: generation[name] for name in NAMES if generation.get(name) is not None}
    if generation.get("do_sample") is False:
        given["temperature"] = 0.0
    good = {name: value for name, value in given.items() if _is_good(name, value)}
    values = [(name, max(0, value) if name == "top_k" else value) for name, value in good.items()]
    return SamplingDefaults(
        tuple(values), tuple(f"{name} {value!r}" for name, value in given.items() if name not in good)
    )


def applied(sampling: Sampling, defaults: SamplingDefaults) -> Sampling:
    """With the checkpoint's values where the client gave none."""
    values = {name: value for name, value in defaults.values if name in sampling.unset}
    return msgspec.structs.replace(sampling, **values, unset=()) if values else sampling


def _is_good(name: str, value: object) -> bool:
    least, most, above, whole = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return least <= value <= most and not (above and value == least)
