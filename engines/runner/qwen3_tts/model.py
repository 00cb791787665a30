"""A Qwen3-TTS checkpoint in MLX: strict loading, the prompt's embeddings, and forward passes of frames.

With `codec.py` the only module of speech that knows mlx-audio's classes. A frame is 80 ms of sound: one code drawn from
the talker, the others one after another from its small predictor. The library's own loop draws from one random state
for all, and keeps one language and limit a session; its forward passes are used, not its loop.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_audio.tts.models.qwen3_tts import config as shapes
from mlx_audio.tts.models.qwen3_tts.qwen3_tts import Model as Module
from mlx_audio.tts.models.qwen3_tts.speech_tokenizer import Qwen3TTSSpeechTokenizer
from mlx_audio.utils import apply_quantization

from engines.models.model_files import read_json
from engines.runner import weights as weights_files
from engines.runner.device_lock import DeviceLock
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.qwen3_tts import sampling
from engines.runner.qwen3_tts.codec import Codec
from engines.runner.qwen3_tts.prompt import FRAME_SAMPLES, Utterance
from engines.runner.qwen3_tts.sampling import Choosing
from engines.runner.time_slice import SlicedLayer, TimeSlice
from engines.types.errors import CheckpointUnusable

CONTROL = 1024  # so many of the talker's last ids are no codes
LEAST_FRAMES = 2  # the end isn't drawn before
KEPT_VOICES = 8
# Of the codec, what only training or the other direction needs; and the encoder has more codebooks than are used.
_UNUSED = re.compile(
    r"\.codebook\.initialized$|^decoder\.quantizer\.rvq_\w+\.input_proj\.|^encoder_model\.quantizer\.rvq_\w+\.output_proj\."
    r"|^encoder_model\.quantizer\.rvq_rest\.vq\.layers\.(?:1[5-9]|[2-9]\d)\."
)


class ReferenceVoice:
    """A recording, as the model sees it: who speaks [1, 1, hidden], and its codes [groups, frames]."""

    def __init__(self, speaker: mx.array, codes: mx.array) -> None:
        self.speaker = speaker
        self.codes = codes


class VoiceModel:
    """A loaded checkpoint. Use it on the thread that loaded it."""

    def __init__(self, module: Any, codec: Codec, choosing: Choosing, lock: DeviceLock | None = None) -> None:
        self.time_slice = TimeSlice(lock)
        if lock is not None:
            layers = module.talker.model.layers
            module.talker.model.layers = [
                SlicedLayer(layer, number, self.time_slice) for number, layer in enumerate(layers)
            ]
        self._module = module
        self._talker = module.talker
        self._predictor = module.talker.code_predictor
        self._config = module.config.talker_config
        self.codec = codec
        self._choosing = choosing
        self._voices: OrderedDict[bytes, ReferenceVoice] = OrderedDict()
        self.end: int = self._config.codec_eos_token_id
        self.groups: int = self._config.num_code_groups
        self._widths = (self._config.vocab_size, self._config.code_predictor_config.vocab_size)
        self._forbidden = self._mask(early=False), self._mask(early=True)

    def _mask(self, early: bool) -> mx.array:
        """[vocabulary] with -inf where an id is no code, or the end comes too early."""
        mask = np.zeros(self._widths[0], np.float32)
        mask[-CONTROL:] = -np.inf
        mask[self.end] = -np.inf if early else 0
        return mx.array(mask)

    @property
    def position_bytes(self) -> int:
        """Of cache, for every token of a prompt and every frame."""
        config = self._config
        size = self._talker.model.codec_embedding.weight.dtype.size
        return int(2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size)

    def new_cache(self) -> Cache:
        return caches.new_cache(self._config.num_hidden_layers)

    # -- the prompt ---------------------------------------------------------------------------------------------

    def voice(self, samples: bytes) -> ReferenceVoice:
        """What a recording is to the model. Those used last are kept, for a text's next sentence."""
        key = blake2b(samples, digest_size=16).digest()
        if key not in self._voices:
            sound = mx.array(np.frombuffer(samples, "<f4"))
            speaker = self._module.extract_speaker_embedding(sound).reshape(1, 1, -1)
            self._voices[key] = ReferenceVoice(speaker, self.codec.encode(sound))
        self._voices.move_to_end(key)
        while len(self._voices) > KEPT_VOICES:
            self._voices.popitem(last=False)
        return self._voices[key]

    def embed(self, prompt: Utterance, voice: ReferenceVoice | None, frames: mx.array | None = None) -> mx.array:
        """The prompt [1, positions, hidden], and behind it the frames [frames, groups] that were made of it before.

        Each position is the sum of a text's and a codec token's embedding.
        """
        config = self._config
        own = self._module.config
        text, codes = self._text, self._codes
        bos, eos, pad = (text([id]) for id in (own.tts_bos_token_id, own.tts_eos_token_id, own.tts_pad_token_id))
        telling = [config.codec_nothink_id, config.codec_think_bos_id, config.codec_think_eos_id]
        if prompt.language is not None:
            telling = [config.codec_think_id, config.codec_think_bos_id, prompt.language, config.codec_think_eos_id]
        control = [codes(telling)]
        if voice is not None:
            control.append(voice.speaker.astype(control[0].dtype))
        elif prompt.speaker is not None:
            control.append(codes([prompt.speaker]))
        codec_pad, codec_bos = codes([config.codec_pad_id]), codes([config.codec_bos_id])
        head = mx.concatenate(control, axis=1)
        parts = [text(prompt.instructions)] if prompt.instructions else []
        parts += [text(prompt.role), pad + head, bos + codec_pad]
        parts += [mx.concatenate([text((*prompt.reference_text, *prompt.text)), eos], axis=1) + codec_pad]
        parts += [pad + codec_bos]
        if voice is not None and prompt.reference_text:
            parts += [pad + self._frames(voice.codes.T[None])]
        if frames is not None and frames.size:
            parts += [pad + self._frames(frames[None])]
        return mx.concatenate(parts, axis=1)

    def _text(self, ids: Sequence[int]) -> mx.array:
        embedded: mx.array = self._talker.text_projection(self._talker.model.text_embedding(mx.array([list(ids)])))
        return embedded

    def _codes(self, ids: Sequence[int]) -> mx.array:
        embedded: mx.array = self._talker.model.codec_embedding(mx.array([list(ids)]))
        return embedded

    def _frames(self, codes: mx.array) -> mx.array:
        """The embeddings [rows, frames, hidden] of codes [rows, frames, groups]."""
        total: mx.array = self._talker.model.codec_embedding(codes[..., 0])
        for group in range(1, self.groups):
            total = total + self._predictor.codec_embedding[group - 1](codes[..., group])
        return total

    # -- frames -------------------------------------------------------------------------------------------------

    def prefill(self, inputs: mx.array, cache: Cache) -> mx.array:
        """Feed one row's prompt; what is behind its last position [1, 1, hidden]."""
        hidden: mx.array = self._talker.model(inputs, cache=cache)[:, -1:]
        mx.eval(hidden, [layer.state for layer in cache])
        return hidden

    def decode(self, frames: mx.array, batch: Cache) -> mx.array:
        """Feed every row its newest frame, codes [rows, groups]; what is behind it [rows, 1, hidden]."""
        pad = self._text([self._module.config.tts_pad_token_id])
        inputs = pad + self._frames(frames[:, None])
        positions = mx.broadcast_to(batch[0].offset[None, :, None], (3, len(frames), 1))
        hidden: mx.array = self._talker.model(inputs, position_ids=positions, mask=batch[0].make_mask(1), cache=batch)
        return hidden

    def draw(
        self, hidden: mx.array, made: Sequence[Sequence[int]], seeds: Sequence[int], imitating: Sequence[bool]
    ) -> mx.array:
        """The next frame of every row, codes [rows, groups]; `made` are the first codes of those it has.

        The first code is `end` when the row has ended; its other codes mean nothing then.
        """
        wide, narrow = self._widths
        size = wide + (self.groups - 1) * narrow
        noise = mx.stack([sampling.noise(seed, len(codes), size) for seed, codes in zip(seeds, made, strict=True)])
        logits = self._talker.codec_head(hidden)[:, -1]
        penalties = [self._choosing.penalty(imitates) for imitates in imitating]
        logits = sampling.penalised(logits.astype(mx.float32), made, penalties)
        logits = logits + mx.stack([self._forbidden[len(codes) < LEAST_FRAMES] for codes in made])
        codes = [sampling.choose(logits, noise[:, :wide], self._choosing)]
        cache = self._predictor.make_cache()
        inputs = mx.concatenate([hidden, self._talker.model.codec_embedding(codes[0])[:, None]], axis=1)
        for group in range(self.groups - 1):
            logits, cache, _ = self._predictor(inputs, cache=cache, generation_step=group)
            start = wide + group * narrow
            codes.append(sampling.choose(logits[:, -1], noise[:, start : start + narrow], self._choosing))
            self.time_slice.passed(group, codes[-1][:, None])
            inputs = self._predictor.codec_embedding[group](codes[-1])[:, None]
        return mx.stack(codes, axis=1)


# -- loading ------------------------------------------------------------------------------------------------------


def load(folder: Path, lock: DeviceLock | None = None) -> VoiceModel:
    """Load a checkpoint's folder. Raises `CheckpointUnusable` for one of which anything is missing.

    The library's loader passes over a codec that can't be read, loads that one's weights as far as they are there, and
    needs transformers for a tokenizer that only its own loop uses: so its parts are put together here.
    """
    config = _json(folder / "config.json")
    module = Module(shapes.ModelConfig.from_dict(config))
    weights = module.sanitize(weights_files.read(folder, "*.safetensors"))
    apply_quantization(module, config, weights, module.model_quant_predicate)
    _fill(module, weights, folder)
    module.eval()
    codec = Codec(_load_codec(folder / "speech_tokenizer"))
    if config.get("tts_model_type", "base") == "base" and not codec.encodes:
        raise CheckpointUnusable(f"{folder / 'speech_tokenizer'} has no encoder, which a model that imitates needs.")
    return VoiceModel(module, codec, Choosing.read(folder), lock)


def _load_codec(folder: Path) -> Any:
    config = _json(folder / "config.json")
    kinds = {
        "decoder_config": shapes.Qwen3TTSTokenizerDecoderConfig,
        "encoder_config": shapes.Qwen3TTSTokenizerEncoderConfig,
    }
    parts = {
        name: kind(**shapes.filter_dict_for_dataclass(kind, config[name]))
        for name, kind in kinds.items()
        if config.get(name)
    }
    module = Qwen3TTSSpeechTokenizer(shapes.Qwen3TTSTokenizerConfig(**parts))
    if module.decoder.total_upsample != FRAME_SAMPLES:
        raise CheckpointUnusable(f"{folder} is a codec with frames of {module.decoder.total_upsample} samples.")
    _fill(module, module.sanitize(weights_files.read(folder, "*.safetensors")), folder)
    module.eval()
    if module.encoder_model is not None:
        quantizer = module.encoder_model.quantizer
        for layer in (*quantizer.rvq_first.vq.layers, *quantizer.rvq_rest.vq.layers):
            layer.codebook.update_in_place()  # from what was loaded just now
    return module


def _fill(module: Any, weights: dict[str, mx.array], folder: Path) -> None:
    """Give every parameter its weight. Weights that the model has no use for are left out, as the makers' own does."""
    wanted = {name: value.shape for name, value in _parameters(module).items()}
    lacking = sorted(name for name in wanted if name not in weights and not _UNUSED.search(name))
    if lacking:
        raise CheckpointUnusable(f"{folder} lacks {len(lacking)} weights, {lacking[0]} among them. Fetch it again.")
    misshapen = [name for name, shape in wanted.items() if name in weights and weights[name].shape != shape]
    if misshapen:
        raise CheckpointUnusable(f"{folder}: {misshapen[0]} hasn't the shape that the configuration says.")
    module.load_weights([(name, weights[name]) for name in wanted if name in weights], strict=False)
    mx.eval(module.parameters())


def _parameters(module: Any) -> dict[str, mx.array]:
    return dict(tree_flatten(module.parameters()))


def _json(path: Path) -> dict[str, Any]:
    if not (content := read_json(path)):
        raise CheckpointUnusable(f"{path} is missing. Fetch the model again.")
    return content
