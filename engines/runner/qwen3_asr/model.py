"""Qwen3-ASR and its forced aligner in MLX, by mlx-audio: loading, and sound → embeddings.

The library's own loader would also read a tokenizer through transformers, run code that a folder brings, and take a
name that is no folder for one of a hub's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_audio.stt.models.qwen3_asr import Model as Library
from mlx_audio.stt.models.qwen3_asr import ModelConfig
from mlx_audio.utils import apply_quantization

from engines.models import checkpoint
from engines.models import tokenizer as tokenizers
from engines.models.config import eos_ids
from engines.models.model_files import read_json
from engines.runner import weights as weights_files
from engines.runner.device_lock import DeviceLock
from engines.runner.generation.content import ContentSpan
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.model import Embed, Model, Row, prefill_limits
from engines.runner.qwen3_asr.encoder import SoundTower
from engines.runner.qwen3_asr.sound import stretches
from engines.runner.time_slice import SlicedLayer, TimeSlice

ENDS = ("<|im_end|>", "<|endoftext|>")
PART = 64  # tokens of a row in a pass, where background work yields


class HearingModel(Model):
    """Its rows begin with the embeddings of a sound, in the places that their tokens keep for them."""

    def __init__(self, library: Any, eos: frozenset[int], identity: bytes, lock: DeviceLock | None = None) -> None:
        self._pace = _paced(library, lock)  # before its layers are taken over
        super().__init__(_TextModule(library), eos, identity, prefill_limits({}))  # its heads have fused attention
        self._library = library
        self._tower = SoundTower(library.audio_tower, self._pace)

    def embed(self, spans: Sequence[ContentSpan]) -> Embed:
        """Raises ValueError unless there is one sound."""
        [sound] = spans
        return Embedding(self._library, sound, self._tower)

    def feed(self, row: Row, cache: Cache) -> None:
        for part in self._parts_of(row):
            super().feed(part, cache)

    def prefill(self, row: Row, cache: Cache) -> mx.array:
        *parts, last = self._parts_of(row)
        for part in parts:
            super().feed(part, cache)
        return super().prefill(last, cache)

    def prefill_rows(self, rows: Sequence[Row], own: Sequence[Cache]) -> tuple[mx.array, list[Cache]]:
        if not self._pace.yields:
            return super().prefill_rows(rows, own)
        copies = [caches.extract(caches.merge([one]), 0) if one[0].offset else self.new_cache() for one in own]
        return mx.concatenate([self.prefill(row, copy) for row, copy in zip(rows, copies, strict=True)]), copies

    def _parts_of(self, row: Row) -> list[Row]:
        """Small ones where it yields to others, which it does after each layer."""
        size = PART if self._pace.yields else len(row)
        return [row[begin : begin + size] for begin in range(0, len(row), size)]


class AligningModel:
    """Tells a time for every place of a row that is to have one. A row begins with the embeddings of a sound."""

    def __init__(self, library: Any, lock: DeviceLock | None = None) -> None:
        self._library = library
        self._tower = SoundTower(library.audio_tower, _paced(library, lock))
        self._body = _TextBody(library.model)
        self.class_seconds: float = library.config.timestamp_segment_time / 1000

    def new_cache(self) -> Cache:
        return caches.new_cache(len(self._body.layers))

    def embed(self, sound: ContentSpan) -> Embed:
        return Embedding(self._library, sound, self._tower)

    def feed(self, row: mx.array, places: Sequence[int], cache: Cache) -> list[int]:
        """Feed embeddings [n, width] of one row; the classes of time at these places in them."""
        behind = self._body(mx.zeros((1, len(row)), mx.int32), cache, row[None])[0]
        classes = mx.zeros((0,), mx.int32)
        if places:
            classes = mx.argmax(self._library.lm_head(behind[mx.array(list(places))]), axis=-1)
        mx.eval(classes, [layer.state for layer in cache])
        return list(map(int, classes.tolist()))  # type: ignore[arg-type]


class Embedding:
    """A row's embeddings, by places. Sound is encoded as far as it is asked for, so that a long piece takes many steps.

    Ask for places in their order: the newest stretch is kept, others are encoded again.
    """

    def __init__(self, library: Any, sound: ContentSpan, tower: SoundTower) -> None:
        self._library = library
        self._tower = tower
        self._sound = sound
        self._stretches = stretches(len(sound.features), library.config.audio_config.n_window_infer)
        self._number = -1
        self._encoded = mx.zeros((0,))

    def __call__(self, tokens: Sequence[int], start: int) -> mx.array:
        """[tokens, width], for the tokens of a row from place `start` on."""
        embeddings: mx.array = self._library.model.embed_tokens(mx.array(list(tokens)))
        begin, end = (min(max(place - start, 0), len(tokens)) for place in (self._sound.begin, self._sound.end))
        if begin == end:
            return embeddings
        offset = start - self._sound.begin
        heard = self._heard(offset + begin, offset + end).astype(embeddings.dtype)
        return mx.concatenate([embeddings[:begin], heard, embeddings[end:]])

    def _heard(self, begin: int, end: int) -> mx.array:
        """The embeddings [end - begin, width] of the sound's own tokens."""
        parts = []
        for number, stretch in enumerate(self._stretches):
            first, last = max(begin, stretch.first), min(end, stretch.first + stretch.tokens)
            if first < last:
                parts.append(self._of(number)[first - stretch.first : last - stretch.first])
        return mx.concatenate(parts)

    def _of(self, number: int) -> mx.array:
        if number != self._number:
            stretch = self._stretches[number]
            self._encoded = self._tower(self._sound.features[stretch.begin : stretch.end])
            self._number = number
        return self._encoded


def load(folder: Path, lock: DeviceLock | None = None) -> HearingModel:
    """Qwen3-ASR from a checkpoint's folder, strictly: what is missing or too much is an error."""
    tokenizer = tokenizers.read(folder)
    ends = (tokenizer.token_to_id(token) for token in ENDS)
    eos = eos_ids(folder) | {id for id in ends if id is not None}
    return HearingModel(load_module(folder), eos, checkpoint.identity(folder), lock)


def load_aligner(folder: Path, lock: DeviceLock | None = None) -> AligningModel:
    """The forced aligner from a checkpoint's folder, as strictly."""
    return AligningModel(load_module(folder), lock)


def load_module(folder: Path) -> Any:
    """The library's module for Qwen3-ASR, or for its aligner where the configuration says so."""
    config = read_json(folder / "config.json")
    module = Library(ModelConfig.from_dict(config))._model
    weights = module.sanitize(weights_files.read(folder, "model*.safetensors"))
    apply_quantization(module, config, weights, module.model_quant_predicate)
    module.load_weights(list(weights.items()), strict=True)
    mx.eval(module.parameters())
    module.eval()
    return module


def _paced(library: Any, lock: DeviceLock | None) -> TimeSlice:
    """Its time slice, by which the layers of its text model go from now on where there is a lock."""
    pace, text = TimeSlice(lock), library.model
    if lock is not None:
        text.layers = [SlicedLayer(layer, number, pace) for number, layer in enumerate(text.layers)]
    return pace


class _TextBody(nn.Module):  # type: ignore[name-defined, misc]
    """The layers, called as those of mlx-lm are."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.layers = text.layers
        self.embed_tokens = text.embed_tokens
        self._text = text

    def __call__(self, inputs: mx.array, cache: Any = None, input_embeddings: mx.array | None = None) -> mx.array:
        behind: mx.array = self._text(inputs, input_embeddings, cache)
        return behind


class _TextModule(nn.Module):  # type: ignore[name-defined, misc]
    """What writes text, called as a model of mlx-lm is. The head is the embeddings'."""

    def __init__(self, library: Any) -> None:
        super().__init__()
        self.model = _TextBody(library.model)

    @property
    def layers(self) -> Any:
        return self.model.layers

    def __call__(self, inputs: mx.array, cache: Any = None, input_embeddings: mx.array | None = None) -> mx.array:
        logits: mx.array = self.model.embed_tokens.as_linear(self.model(inputs, cache, input_embeddings))
        return logits
