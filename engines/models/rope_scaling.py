"""How many positions a model was made for, where its rotary embeddings are scaled. Pure.

`max_position_embeddings` is what the makers wrote down, before or after the scaling, by its kind. The rules are vLLM's:
YaRN multiplies what it began with; linear and dynamic scaling multiply the figure, except for Gemma 3, whose figure has
it already; for llama3, longrope (su) and all others the figure is the length.
"""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]
_ALREADY_SCALED = frozenset({"gemma3", "gemma3_text"})


def context_length(config: Json) -> int:
    """Tokens, from the part of config.json that describes the text model; 0 if it doesn't say."""
    length = _number(config.get("max_position_embeddings"))
    scaling = _scaling(config)
    kind = scaling.get("type") or scaling.get("rope_type")
    factor = _number(scaling.get("factor"))
    original = _number(scaling.get("original_max_position_embeddings", config.get("original_max_position_embeddings")))
    if not factor or not isinstance(kind, str):
        return int(length)
    if kind.endswith("yarn"):
        return int(factor * (original or length))
    if kind in ("linear", "dynamic") and config.get("model_type") not in _ALREADY_SCALED:
        return int(factor * (original or length))
    return int(length)


def _scaling(config: Json) -> Json:
    """`rope_scaling`, or since transformers 5 `rope_parameters`, which may differ by kinds of layers."""
    for name in ("rope_scaling", "rope_parameters"):
        if isinstance(given := config.get(name), Mapping) and given:
            whole = given.get("full_attention", given)
            return whole if isinstance(whole, Mapping) else {}
    return {}


def _number(value: object) -> float:
    """Above 0, or 0."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9 else 0.0
