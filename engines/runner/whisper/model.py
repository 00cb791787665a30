"""Whisper in MLX: loading and forward passes over the modules of mlx-audio. The only module that knows that library.

A window's sound is encoded once; then rows of different windows decode together. Each layer of a row keeps the keys and
values of what it heard (`crossed`) and of what it said.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.activations import gelu
from mlx.nn.layers.quantized import quantize
from mlx_audio.stt.models.whisper.whisper import Model as Module
from mlx_audio.stt.models.whisper.whisper import ModelDimensions

from engines.models.model_files import read_json
from engines.runner import weights as weights_files
from engines.runner.device_lock import DeviceLock
from engines.runner.time_slice import TimeSlice
from engines.runner.whisper.caches import CacheRow, KeysValues, Rows
from engines.types.errors import CheckpointUnusable

FRAMES = 3000  # of 10 ms: the window that the encoder takes
PLACES = FRAMES // 2  # that it makes of them
PART = 25  # places that are encoded together at least

Cross = Sequence[KeysValues]  # a layer each: keys and values [rows, heads, audio, dim]


class WhisperModel:
    """A loaded checkpoint. Use it on the thread that loaded it. `alignment_heads` are (layer, head)."""

    def __init__(self, module: Any, alignment_heads: Sequence[tuple[int, int]], lock: DeviceLock | None = None) -> None:
        self._module = module
        self._pace = TimeSlice(lock)
        self._decoder = module.decoder
        self.alignment_heads = tuple(alignment_heads)

    @property
    def vocabulary_size(self) -> int:
        return int(self._module.dims.n_vocab)

    @property
    def bins(self) -> int:
        return int(self._module.dims.n_mels)

    @property
    def context(self) -> int:
        """Positions of the decoder."""
        return int(self._module.dims.n_text_ctx)

    @property
    def row_bytes(self) -> int:
        """What a row keeps at most, over all layers: of what it heard and of what it said."""
        dims = self._module.dims
        return int(2 * dims.n_text_layer * dims.n_text_state * (dims.n_audio_ctx + self.context) * self._item_size)

    @property
    def _item_size(self) -> int:
        return int(self._module.dtype.size)

    def listen(self, features: np.ndarray) -> Cross:
        """Encode a window [frames ≤ 3000, bins]; what a row looks at from every layer."""
        window = np.zeros((1, FRAMES, features.shape[1]), np.float32)
        window[0, : len(features)] = features
        heard = self._encoded(mx.array(window).astype(self._module.dtype))
        attentions = [block.cross_attn for block in self._decoder.blocks]
        crossed: list[KeysValues] = []
        for one in attentions:
            crossed.append((_heads(one.key(heard), one), _heads(one.value(heard), one)))
            self._pace.reached("crossed", 1, *crossed[-1])
        mx.eval(crossed)
        return tuple(crossed)

    def _encoded(self, window: mx.array) -> mx.array:
        """[1, audio, state] of [1, frames, bins]. The library's own pass holds each layer's whole attention at once."""
        encoder = self._module.encoder
        hidden = self._in_parts("convolved", partial(self._convolved, window)) + encoder._positional_embedding
        for block in encoder.blocks:
            hidden = self._listened(block, hidden)
        heard: mx.array = encoder.ln_post(hidden)
        return heard

    def _convolved(self, window: mx.array, begin: int, end: int) -> mx.array:
        """The places from `begin` to `end` [1, places, state] of [1, frames, bins]."""
        one, other = self._module.encoder.conv1, self._module.encoder.conv2
        first, behind = max(2 * begin - 1, 0), 2 * end  # of what the second one sees
        edge = max(first - 1, 0)
        seen = gelu(one(window[:, edge : behind + 1]))[:, first - edge : behind - edge]
        if begin == 0:
            seen = mx.pad(seen, [(0, 0), (1, 0), (0, 0)])
        return gelu(mx.conv1d(seen, other.weight, stride=2) + other.bias)

    def _listened(self, block: Any, hidden: mx.array) -> mx.array:
        """[1, audio, state] behind one of the encoder's layers."""
        normed, attention = block.attn_ln(hidden), block.attn
        keys, values = (_heads(part(normed), attention) for part in (attention.key, attention.value))
        self._pace.reached("keys", 1, keys, values)

        def attended(begin: int, end: int) -> mx.array:
            queries = _heads(attention.query(normed[:, begin:end]), attention)
            return _attend(attention, queries, keys, values, None)

        hidden = hidden + self._in_parts("attended", attended)
        return self._in_parts("fed", lambda begin, end: _fed_forward(block, hidden[:, begin:end]))

    def _in_parts(self, kind: str, work: Callable[[int, int], mx.array]) -> mx.array:
        """[1, audio, state]: what `work` makes of the places from one to another; some at a time while turns are
        taken."""
        parts: list[mx.array] = []
        begin = 0
        while begin < PLACES:
            units = self._pace.size(kind, (PLACES - begin) // PART)
            parts.append(work(begin, begin + units * PART))
            self._pace.reached(kind, units, parts[-1])
            begin += units * PART
        return mx.concatenate(parts, axis=1)

    def begin(self, prompt: Sequence[int], crossed: Cross, places: Sequence[int]) -> tuple[mx.array, CacheRow]:
        """Feed a row's prompt: the logits [places, vocabulary] behind the tokens at these places, and the row."""
        behind, row = self._feed(prompt, crossed, None)
        logits = self._head(behind[0, mx.array(list(places))])
        mx.eval(logits, row.said)
        return logits, row

    def decode(self, tokens: Sequence[int], rows: Rows) -> mx.array:
        """Feed one token a row: the logits [rows, vocabulary]."""
        embedded = self._decoder.token_embedding(mx.array(list(tokens)))
        hidden = (embedded + self._decoder.positional_embedding[mx.array(rows.lengths)])[:, None]
        mask = rows.grow()
        hidden = self._layers(hidden, rows.crossed, mask, rows.write)
        logits = self._head(hidden[:, 0])
        mx.eval(logits, *rows.state)
        return logits

    def reread(
        self, prompt: Sequence[int], text: Sequence[int], end: int, crossed: Cross, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a text that was said, and its `end`: each token's probability, and what the alignment heads looked at.

        Probabilities [text] are among the ids below the end; attention is [heads, prompt + text + 1, steps].
        """
        looked: dict[int, mx.array] = {}
        behind, _ = self._feed([*prompt, *text, end], crossed, looked)
        logits = self._head(behind[0, len(prompt) - 1 : -2]).astype(mx.float32)[:, :end]
        chances = mx.softmax(logits, axis=-1, precise=True)
        chances = mx.take_along_axis(chances, mx.array(list(text))[:, None], axis=-1)[:, 0]
        scores = mx.stack([looked[layer][0, head, :, :steps] for layer, head in self.alignment_heads])
        return np.array(chances), np.array(mx.softmax(scores.astype(mx.float32), axis=-1, precise=True))

    def _head(self, hidden: mx.array) -> mx.array:
        logits: mx.array = self._decoder.token_embedding.as_linear(self._decoder.ln(hidden))
        return logits

    def _feed(
        self, tokens: Sequence[int], crossed: Cross, looked: dict[int, mx.array] | None
    ) -> tuple[mx.array, CacheRow]:
        """One row's tokens from its beginning; `looked` takes the layers' scores of what is heard."""
        count = len(tokens)
        hidden = self._decoder.token_embedding(mx.array([list(tokens)]))
        hidden = hidden + self._decoder.positional_embedding[:count]
        mask = None if count == 1 else mx.tril(mx.ones((count, count), mx.bool_))
        said: list[KeysValues] = []

        def keep(layer: int, keys: mx.array, values: mx.array) -> KeysValues:
            said.append((keys, values))
            return keys, values

        hidden = self._layers(hidden, crossed, mask, keep, looked)
        return hidden, CacheRow(tuple(said), tuple(crossed))

    def _layers(
        self,
        hidden: mx.array,
        crossed: Cross,
        mask: mx.array | None,
        write: Callable[[int, mx.array, mx.array], KeysValues],
        looked: dict[int, mx.array] | None = None,
    ) -> mx.array:
        """[rows, tokens, state] through all layers; `write` notes a layer's keys and values and gives all there are."""
        for layer, block in enumerate(self._decoder.blocks):
            normed = block.attn_ln(hidden)
            keys = _heads(block.attn.key(normed), block.attn)
            values = _heads(block.attn.value(normed), block.attn)
            queries = _heads(block.attn.query(normed), block.attn)
            hidden = hidden + _attend(block.attn, queries, *write(layer, keys, values), mask)
            queries = _heads(block.cross_attn.query(block.cross_attn_ln(hidden)), block.cross_attn)
            if looked is not None:
                looked[layer] = (queries * queries.shape[-1] ** -0.5) @ crossed[layer][0].transpose(0, 1, 3, 2)
            hidden = hidden + _attend(block.cross_attn, queries, *crossed[layer], None)
            hidden = _fed_forward(block, hidden)
            self._pace.passed(layer, hidden)
        return hidden


def _heads(states: mx.array, attention: Any) -> mx.array:
    """[rows, tokens, state] → [rows, heads, tokens, dim]."""
    rows, tokens, _ = states.shape
    return states.reshape(rows, tokens, attention.n_head, -1).transpose(0, 2, 1, 3)


def _attend(attention: Any, queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | None) -> mx.array:
    scale = queries.shape[-1] ** -0.5
    mixed = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    rows, _, tokens, _ = mixed.shape
    out: mx.array = attention.out(mixed.transpose(0, 2, 1, 3).reshape(rows, tokens, -1))
    return out


def _fed_forward(block: Any, hidden: mx.array) -> mx.array:
    changed: mx.array = block.mlp2(gelu(block.mlp1(block.mlp_ln(hidden))))
    return hidden + changed


# -- loading ------------------------------------------------------------------------------------------------------


def load(folder: Path, lock: DeviceLock | None = None) -> WhisperModel:
    """Load a checkpoint's folder, strictly; never looks at a hub. float32 on a CPU, where half precision is slow.

    Raises `CheckpointUnusable` when the weights are missing or aren't those of the configuration.
    """
    config = read_json(folder / "config.json")
    dtype = mx.float32 if mx.default_device().type == mx.cpu else mx.float16
    module = Module(ModelDimensions.from_dict(config), dtype)
    weights = module.sanitize(_tolerated(weights_files.read(folder, "*.safetensors", "*.npz")))
    _quantise(module, config, weights)
    try:
        module.load_weights(list(weights.items()), strict=True)
    except ValueError as error:
        raise CheckpointUnusable(f"The weights in {folder} aren't those of its config.json: {error}") from error
    module.eval()
    mx.eval(module.parameters())
    return WhisperModel(module, _alignment_heads(folder, module), lock)


def _tolerated(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Without what is computed, or stored twice: the head is the embeddings' own."""
    return {
        name: weight
        for name, weight in weights.items()
        if not name.startswith("proj_out.") and not any(part.startswith("_") for part in name.split("."))
    }


def _quantise(module: Any, config: Mapping[str, Any], weights: Mapping[str, mx.array]) -> None:
    """As the configuration says, the layers for which there are scales."""
    settings = config.get("quantization") or config.get("quantization_config")
    if not settings:
        return
    quantize(
        module,
        group_size=settings.get("group_size", 64),
        bits=settings["bits"],
        mode=settings.get("mode", "affine"),
        class_predicate=lambda path, part: settings.get(path) or f"{path}.scales" in weights,
    )


def _alignment_heads(folder: Path, module: Any) -> list[tuple[int, int]]:
    """Those that generation_config.json names; without it, all of the upper half of the layers."""
    named = read_json(folder / "generation_config.json").get("alignment_heads")
    if named:
        return [(int(layer), int(head)) for layer, head in named]
    dims = module.dims
    return [
        (layer, head) for layer in range(dims.n_text_layer // 2, dims.n_text_layer) for head in range(dims.n_text_head)
    ]
