"""A checkpoint in MLX: loading and forward passes, by mlx-lm. With `caches.py` the only module that knows mlx-lm."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from engines.models import checkpoint
from engines.models.config import eos_ids, text_config
from engines.models.prefill_limits import CPU, PrefillLimits, gpu_limits
from engines.runner.generation.content import ContentSpan
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.split_forward import parts

CACHE_BYTES = 1 << 30
CARD_SHARE = 0.95  # MLX's own limit

Row = Sequence[int] | mx.array  # tokens, or their embeddings [tokens, width]
Embed = Callable[[Sequence[int], int], mx.array]  # tokens of a row, and the place of the first


class Model:
    """A loaded checkpoint. Use it on the thread that loaded it.

    `identity` is that of its files (`engines.models.checkpoint.identity`): no other model has it.
    """

    def __init__(self, module: Any, eos: frozenset[int], identity: bytes, limits: PrefillLimits = CPU) -> None:
        self._module = module
        self._parts = parts(module)
        self.eos = eos
        self.identity = identity
        self.limits = limits

    def new_cache(self) -> Cache:
        return list(make_prompt_cache(self._module))

    def embed(self, spans: Sequence[ContentSpan]) -> Embed | None:
        """How rows with such content are fed; None: as tokens. All rows of one model alike.

        Raises ValueError for content that the model doesn't take.
        """
        if spans:
            raise ValueError("This model takes text alone.")
        return None

    def feed(self, row: Row, cache: Cache) -> None:
        """Feed some of one row, all but the last of its prompt."""
        inputs, embeddings = _padded([row])
        self._module(inputs, cache=cache, **embeddings)  # the head is never computed
        mx.eval([layer.state for layer in cache])

    def prefill(self, row: Row, cache: Cache) -> mx.array:
        """Feed some of one row; the logits [1, vocabulary] behind the last."""
        inputs, embeddings = _padded([row])
        if self._parts is None or len(row) == 1:
            return _evaluated(self._module(inputs, cache=cache, **embeddings)[:, -1], cache)
        return _evaluated(self._parts.last(inputs, cache, embeddings), cache)

    def prefill_rows(self, rows: Sequence[Row], own: Sequence[Cache]) -> tuple[mx.array, list[Cache]]:
        """Feed some of several rows at once: the logits [rows, vocabulary] behind their last, and new caches.

        The caches that are given stay as they are.
        """
        lengths = [len(row) for row in rows]
        inputs, embeddings = _padded(rows)
        batch = caches.merge(own)
        with caches.padded(batch, lengths):
            if self._parts is None:
                rows_logits = self._module(inputs, cache=batch, **embeddings)
                logits = mx.stack([rows_logits[row, length - 1] for row, length in enumerate(lengths)])
            else:
                logits = self._parts.ends(inputs, lengths, batch, embeddings)
        mx.eval(logits, [layer.state for layer in batch])
        return logits, [caches.extract(batch, row) for row in range(len(rows))]

    def score(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        """Feed one row's tokens; the logits [tokens, vocabulary] behind each of them."""
        return _evaluated(self._module(mx.array([list(tokens)]), cache=cache)[0], cache)

    def decode(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        """Begin to feed one token a row, known or still to be computed; the logits [rows, vocabulary] to be."""
        inputs = tokens if isinstance(tokens, mx.array) else mx.array(list(tokens))
        logits: mx.array = self._module(inputs[:, None], cache=cache)[:, -1]
        mx.async_eval(logits, [layer.state for layer in cache])  # type: ignore[no-untyped-call]
        return logits


def _padded(rows: Sequence[Row]) -> tuple[mx.array, dict[str, mx.array]]:
    """What a module of mlx-lm takes for rows, padded on the right: ids [rows, longest], and embeddings by name."""
    longest = max(map(len, rows))
    given = [mx.pad(row, [(0, longest - len(row)), (0, 0)]) for row in rows if isinstance(row, mx.array)]
    if given:
        return mx.zeros((len(rows), longest), mx.int32), {"input_embeddings": mx.stack(given)}
    return mx.array([[*row, *[0] * (longest - len(row))] for row in rows]), {}


def _evaluated(logits: mx.array, cache: Cache) -> mx.array:
    mx.eval(logits, [layer.state for layer in cache])
    return logits


def load(folder: Path, ends: frozenset[int] | None = None) -> Model:
    """Load the weights of a checkpoint's folder, strictly. Never looks at a hub: the folder must exist.

    `ends` are the tokens that end an answer, if they aren't those that the configurations name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    module, config = load_model(folder, strict=True)
    mx.eval(module.parameters())
    ends = eos_ids(folder) if ends is None else ends
    return Model(module, ends, checkpoint.identity(folder), prefill_limits(text_config(config)))


def prefill_limits(config: Mapping[str, Any]) -> PrefillLimits:
    """Of a text model with this configuration, on the device that computes."""
    return gpu_limits(config) if mx.default_device().type == mx.gpu else CPU


def set_limits(lease_bytes: int) -> None:
    """Keep MLX within a lease: what it holds, and what it keeps for reuse."""
    mx.set_memory_limit(lease_bytes)
    mx.set_cache_limit(min(lease_bytes // 16, CACHE_BYTES))


def set_wired_limit(limit_bytes: int) -> None:
    """On Metal, keep at most so many bytes resident; 0 leaves it to macOS.

    Large wired sets that change are linked to kernel panics (ml-explore/mlx#3186), and page everything else out.
    """
    if limit_bytes and mx.metal.is_available():
        mx.set_wired_limit(min(limit_bytes, device_bytes()))


def release() -> None:
    """Give back what MLX keeps for reuse."""
    mx.clear_cache()


def synchronize() -> None:
    """Wait until what was begun is computed."""
    mx.synchronize()


def active_bytes() -> int:
    return mx.get_active_memory()


def peak_bytes() -> int:
    return mx.get_peak_memory()


def device_name() -> str:
    return str(mx.default_device())


def device_bytes() -> int:
    """What of a GPU's memory to use at most: as Metal recommends, or nearly all of a card's own; 0 without a GPU."""
    about = mx.device_info()
    recommended = int(about.get("max_recommended_working_set_size", 0))
    return recommended or int(CARD_SHARE * int(about.get("total_memory", 0)))
