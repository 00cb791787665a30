"""A piece of a recording → what Qwen3-ASR is to continue. Runs beside the step thread; nothing of MLX.

The prompt is that of the model's makers: a system turn with the context, a user's turn with the sound, and the
assistant's turn, which begins with `language NAME<asr_text>`. Where the language is known that stands there, and behind
it what was told of the text already; else the model writes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from engines.models import tokenizer as tokenizers
from engines.models.model_files import read_json
from engines.runner import mel
from engines.runner.generation.prompt import Prompt
from engines.runner.patience import Patience
from engines.runner.qwen3_asr.languages import SupportedLanguages
from engines.runner.qwen3_asr.output_text import PieceReading
from engines.runner.qwen3_asr.sound import sound_span, tokens_of
from engines.runner.tokenization.encoding import TextEncoder, TooManyTokens, too_long
from engines.runner.tokenization.prompt_escaping import any_of, breaker, unused_characters
from engines.types.audio import EAR_RATE, PieceRequest
from engines.types.chat import Sampling
from engines.types.errors import CheckpointUnusable, ContextLengthExceeded, InvalidRequest, UnsupportedField

# Fast Cantonese, in characters of which some take two tokens or three, stays below.
TOKENS_A_SECOND, TOKENS_BESIDE = 15, 32
SHORTEST = EAR_RATE  # samples; what is shorter is followed by silence, as the model's makers do it
PAD = "<|audio_pad|>"

Samples = npt.NDArray[np.float32]


class PieceWriter:
    """One checkpoint's tokenizer, spectrogram and languages. `Preparer[PieceRequest, Prompt]`."""

    def __init__(self, tokenizer: Tokenizer, bins: int, supported: Sequence[str], context_length: int) -> None:
        pad = tokenizer.token_to_id(PAD)
        if pad is None:
            raise CheckpointUnusable(f"The tokenizer of this checkpoint has no {PAD}: it isn't Qwen3-ASR's.")
        self._encoder = TextEncoder(tokenizer)
        self._bins = bins
        self._pad = pad
        self._languages = SupportedLanguages(supported)
        self._context_length = context_length
        self._control = any_of([token.content for token in tokenizer.get_added_tokens_decoder().values()])

    @classmethod
    def read(cls, folder: Path, context_limit: int) -> "PieceWriter":
        """From a checkpoint's folder. Raises `CheckpointUnusable` if that isn't Qwen3-ASR's."""
        config: dict[str, Any] = read_json(folder / "config.json")
        thinker = {**config, **(config.get("thinker_config") or {})}
        known = (thinker.get("text_config") or {}).get("max_position_embeddings")
        context_length = min(known or context_limit, context_limit)
        supported = thinker.get("support_languages") or ()
        return cls(tokenizers.read(folder), mel_bins(thinker), supported, context_length)

    @property
    def context_length(self) -> int:
        """Tokens of prompt and text together, at most."""
        return self._context_length

    def write(self, request: PieceRequest, patience: Patience | None = None) -> Prompt:
        """Raises `InvalidRequest` for what can't be done, `ContextLengthExceeded` for what is too long."""
        if request.translate:
            raise UnsupportedField("Qwen3-ASR writes down and doesn't translate: use a Whisper model.", param="model")
        if request.words:
            message = "Qwen3-ASR tells no times of words: leave them out, or align its text with the aligner."
            raise UnsupportedField(message, param="timestamp_granularities")
        # Behind a beginning stands the language that the model wrote itself, which it may not list.
        name = (self._languages.listed if request.beginning else self._languages.name)(request.language)
        samples = read_samples(request.samples)
        seconds = len(samples) / EAR_RATE
        frames = spectrogram(samples, self._bins)
        head = self._head(request.context, patience)
        tail = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n" + (f"language {name}<asr_text>" if name else "")
        begun = self._marked("", request.beginning, "")
        ids = (*head, *[self._pad] * tokens_of(len(frames)), *self._encoded(tail), *begun)
        most = max(int(seconds * TOKENS_A_SECOND) - len(begun), 0) + TOKENS_BESIDE
        if len(ids) + most > self._context_length:
            raise ContextLengthExceeded(
                f"This model's context is {self._context_length} tokens; {seconds:.0f} seconds of sound with the "
                f"prompt take {len(ids)}, and their text up to {most}. Shorten the prompt or the pieces.",
                param="prompt",
            )
        sampling = Sampling(request.temperature, repetition_penalty=request.repetition_penalty, logprobs=0)
        return Prompt(
            ids,
            most,
            sampling,
            request.trace,
            PieceReading(seconds, request.language, request.beginning),
            background=request.priority == "background",
            spans=(sound_span(frames, len(head)),),
            repeatable_from=len(ids) - len(begun),  # what was said; the context's names are there to be repeated
        )

    def _head(self, context: str, patience: Patience | None) -> tuple[int, ...]:
        """What stands before the sound. Raises `ContextLengthExceeded` for a context that is too long by itself."""
        try:
            self._encoder.check([context], self._context_length)
            behind = "<|im_end|>\n<|im_start|>user\n<|audio_start|>"
            return self._marked("<|im_start|>system\n", context, behind, patience)
        except TooManyTokens as error:
            raise too_long(self._context_length, error, "prompt") from error

    def _marked(self, before: str, text: str, behind: str, patience: Patience | None = None) -> tuple[int, ...]:
        """Text between markup; encoded in one piece with it, but for what would be markup in the text."""
        sentinel = next(unused_characters([text]))
        parts = f"{before}{breaker(self._control, sentinel)(text)}{behind}".split(sentinel)
        ids: list[int] = []
        for part in parts:
            ids += self._encoder.ids(part, most=self._context_length - len(ids), patience=patience)
        return tuple(ids)

    def _encoded(self, text: str) -> list[int]:
        return self._encoder.ids(text)


def mel_bins(thinker: Mapping[str, Any]) -> int:
    """Of how many bands the spectrogram is that a checkpoint's encoder takes."""
    return int((thinker.get("audio_config") or {}).get("num_mel_bins", 128))


def read_samples(data: bytes) -> Samples:
    """Sound as it goes over the wire. Raises `InvalidRequest` if it is none."""
    if not data or len(data) % 4:
        raise InvalidRequest("The piece holds no sound.", param="file")
    samples = np.frombuffer(data, "<f4")
    if not np.isfinite(samples).all():
        raise InvalidRequest("The piece holds samples that are no numbers.", param="file")
    return samples


def spectrogram(samples: Samples, bins: int) -> npt.NDArray[np.float32]:
    """[frames, bins], of at least a second."""
    return mel.log_mel(np.pad(samples, (0, max(0, SHORTEST - len(samples)))), bins)
