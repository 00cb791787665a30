"""What a model's passes need beside weights and KV cache. Pure."""

from collections.abc import Mapping

from engines.models.prefill_limits import CPU, SCORE_BYTES, gpu_limits

LEAST = 256 << 20
ROWS = 16  # that decode together
HALF, SINGLE = 2, 4  # bytes


def work_space(text: Mapping[str, object], on_gpu: bool) -> int:
    """Bytes of intermediate arrays at most, from a text model's configuration.

    The largest are a prefill pass's: the inner layer three times (gate, up, their product) and the residual stream
    with queries, keys and values; where attention isn't fused its scores, twice; and the logits of the rows that
    decode, in float32. Too little isn't refused by MLX: over its limit it waits for the device behind each operation.
    """
    hidden, inner, vocabulary = (_size(text, name) for name in ("hidden_size", "intermediate_size", "vocab_size"))
    limits = gpu_limits(text) if on_gpu else CPU
    width = HALF if on_gpu else SINGLE
    layer = limits.most * (3 * inner + 8 * hidden) * width
    scores = 2 * SCORE_BYTES if limits.score_bytes else 0
    return max(LEAST, layer + scores + 3 * ROWS * vocabulary * SINGLE)


def _size(text: Mapping[str, object], name: str) -> int:
    value = text.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31 else 0
