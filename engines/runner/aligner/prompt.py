"""A text and its sound → what the forced aligner reads. Runs beside the step thread; nothing of MLX.

The row is that of the model's makers: the sound, then each word with two marks behind it, in whose places the model
tells when the word begins and ends. The language isn't told to it: how a text is cut into words follows its script.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from engines.models import tokenizer as tokenizers
from engines.models.model_files import read_json
from engines.runner.aligner.text import units
from engines.runner.generation.content import ContentSpan
from engines.runner.patience import Patience
from engines.runner.qwen3_asr.languages import SupportedLanguages
from engines.runner.qwen3_asr.prompt import PAD, mel_bins, read_samples, spectrogram
from engines.runner.qwen3_asr.sound import sound_span, tokens_of
from engines.runner.tokenization.encoding import TextEncoder, TooManyTokens, too_long
from engines.types.audio import EAR_RATE, AlignmentRequest
from engines.types.errors import CheckpointUnusable, ContextLengthExceeded, InvalidRequest

MARK = "<timestamp>"


class AlignmentPrompt(msgspec.Struct, frozen=True):
    """A row with `seconds` of sound, and the words whose times stand at `places` in it, two for each."""

    ids: tuple[int, ...]
    sound: ContentSpan
    seconds: float
    words: tuple[str, ...]
    places: tuple[int, ...]
    trace: str = ""

    @property
    def prompt_tokens(self) -> int:
        return len(self.ids)

    @property
    def max_tokens(self) -> int:
        """Nothing is written."""
        return 0


class AlignmentWriter:
    """One checkpoint's tokenizer and spectrogram. `Preparer[AlignmentRequest, Alignment]`."""

    def __init__(self, tokenizer: Tokenizer, thinker: dict[str, Any], supported: Sequence[str], limit: int) -> None:
        mark, pad = tokenizer.token_to_id(MARK), tokenizer.token_to_id(PAD)
        if mark is None or pad is None:
            raise CheckpointUnusable(f"The tokenizer of this checkpoint has no {MARK} or {PAD}: it is no aligner's.")
        self._encoder = TextEncoder(tokenizer)
        self._bins = mel_bins(thinker)
        self._pad, self._mark = int(pad), int(mark)
        self._languages = SupportedLanguages(supported)
        self._most_seconds = thinker.get("classify_num", 5000) * thinker.get("timestamp_segment_time", 80) / 1000
        self._context_length = limit

    @classmethod
    def read(cls, folder: Path, context_limit: int) -> "AlignmentWriter":
        """From a checkpoint's folder. Raises `CheckpointUnusable` if that isn't an aligner's."""
        config: dict[str, Any] = read_json(folder / "config.json")
        thinker = {**config, **(config.get("thinker_config") or {})}
        known = (thinker.get("text_config") or {}).get("max_position_embeddings")
        supported = thinker.get("support_languages") or ()
        return cls(tokenizers.read(folder), thinker, supported, min(known or context_limit, context_limit))

    @property
    def context_length(self) -> int:
        """Tokens of sound and text together, at most."""
        return self._context_length

    def write(self, request: AlignmentRequest, patience: Patience | None = None) -> AlignmentPrompt:
        """Raises `InvalidRequest` for what can't be done, `ContextLengthExceeded` for what is too long."""
        self._languages.name(request.language)
        try:
            self._encoder.check([request.text], self._context_length)
        except TooManyTokens as error:
            raise too_long(self._context_length, error, "text") from error
        words = units(request.text)
        if not words:
            raise InvalidRequest("text holds no word: give what is spoken in the recording.", param="text")
        samples = read_samples(request.samples)
        seconds = len(samples) / EAR_RATE
        if seconds > self._most_seconds:
            message = f"This aligner tells times up to {self._most_seconds:.0f} seconds; the piece has {seconds:.0f}."
            raise ContextLengthExceeded(f"{message} Cut it.", param="file")
        frames = spectrogram(samples, self._bins)
        opening = self._encoded("<|audio_start|>")
        ids = [*opening, *[self._pad] * tokens_of(len(frames)), *self._encoded("<|audio_end|>")]
        places: list[int] = []
        for word in words:
            ids += [*self._encoded(word.spoken), self._mark, self._mark]
            places += [len(ids) - 2, len(ids) - 1]
        if len(ids) > self._context_length:
            message = f"This model's context is {self._context_length} tokens; sound and text take {len(ids)}."
            raise ContextLengthExceeded(f"{message} Give less of both.", param="text")
        sound = sound_span(frames, len(opening))
        texts = tuple(word.text for word in words)
        return AlignmentPrompt(tuple(ids), sound, seconds, texts, tuple(places), request.trace)

    def _encoded(self, text: str) -> list[int]:
        return self._encoder.ids(text)
