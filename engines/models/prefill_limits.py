"""The sizes of prefill passes that suit a device, from a model's configuration. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

SCORE_BYTES = 256 << 20  # of attention scores in one pass, where attention isn't fused
FUSED_HEADS = frozenset({64, 80, 128})  # head sizes with fused attention in prefill (mlx, scaled_dot_product_attention)


class PrefillLimits(msgspec.Struct, frozen=True):
    """What prefill passes are made of on a device.

    `smallest`, `multiple`, `usual`, `most`: tokens of a pass. Passes grow from `usual` to `most` while nobody decodes.
    `prompt`: most tokens of one prompt in a pass. `score_bytes`: bytes of attention scores for each pair of a query and
    a key, 0 where attention is fused or the device doesn't mind. `stored_together`: positions between two captures of
    KV blocks in decode.
    """

    smallest: int = 8
    multiple: int = 1
    usual: int = 512
    most: int = 512
    prompt: int = 256
    score_bytes: int = 0
    stored_together: int = 16


CPU = PrefillLimits()


def gpu_limits(text: Mapping[str, Any]) -> PrefillLimits:
    """On a GPU a pass reads all weights whatever its size, and its kernels compute 32 rows at a time.

    `text` is the configuration of a text model, with what its family leaves out.
    """
    heads, width = text.get("num_attention_heads"), text.get("hidden_size")
    if not isinstance(heads, int) or not isinstance(width, int) or heads <= 0:
        return PrefillLimits(32, 32, 512, 2048, 2048, 0, 64)
    head = text.get("head_dim") or width // heads
    return PrefillLimits(32, 32, 512, 2048, 2048, 0 if head in FUSED_HEADS else 2 * heads, 64)
