"""A piece of a recording → what the model listens to, and the prompt's parts. Runs beside the step thread; no MLX."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.models.model_files import read_json
from engines.runner import mel
from engines.runner.patience import Patience
from engines.runner.whisper.rules import temperatures
from engines.runner.whisper.vocabulary import Vocabulary
from engines.types.audio import EAR_RATE, PieceRequest
from engines.types.errors import CheckpointUnusable, InvalidRequest, UnsupportedField

MAX_CONTEXT = 64 * 1024  # characters; the model takes the last 223 tokens
LONGEST = 30  # seconds: what the encoder takes

Array = npt.NDArray[np.float32]


class WhisperPrompt(msgspec.Struct, frozen=True):
    """A request, ready for the engine: `features` [frames of 10 ms, bins].

    `language` is a code, "" if it is to be heard. `context` are tokens of text that may come up. `temperatures` are
    tried in turn. `seed` decides draws: the same sound is written down the same way each time.
    """

    features: Array
    seconds: float
    language: str
    translate: bool
    context: tuple[int, ...]
    temperatures: tuple[float, ...]
    repetition_penalty: float
    words: bool
    seed: int
    max_tokens: int
    trace: str

    @property
    def prompt_tokens(self) -> int:
        """Three marks, and the context with its own."""
        return 3 + (len(self.context) + 1 if self.context else 0)


class WhisperPreparer:
    """`Preparer[PieceRequest, Piece]` of one checkpoint: `context_length` positions, `bins` bands of its spectrum."""

    def __init__(self, vocabulary: Vocabulary, bins: int, context_length: int) -> None:
        self._vocabulary = vocabulary
        self._bins = bins
        self._context_length = context_length

    @classmethod
    def read(cls, folder: Path) -> "WhisperPreparer":
        """From a checkpoint's folder. Raises `CheckpointUnusable`."""
        config = read_json(folder / "config.json")
        size = _number(config, "n_vocab", "vocab_size")
        bins = _number(config, "n_mels", "num_mel_bins")
        return cls(Vocabulary.read(folder, size), bins, _number(config, "n_text_ctx", "max_target_positions"))

    @property
    def context_length(self) -> int:
        return self._context_length

    def write(self, request: PieceRequest, patience: Patience | None = None) -> WhisperPrompt:
        """Raises `InvalidRequest` for sound that isn't one, `UnsupportedField` and it for what the model can't do."""
        samples = _samples(request.samples)
        self._check(request)
        half = self._context_length // 2
        context = request.context.strip()[-MAX_CONTEXT:]
        return WhisperPrompt(
            features=_features(samples, self._bins),
            seconds=len(samples) / EAR_RATE,
            language=request.language,
            translate=request.translate,
            context=self._vocabulary.encode(f" {context}")[-(half - 1) :] if context else (),
            temperatures=temperatures(request.temperature),
            repetition_penalty=request.repetition_penalty,
            words=request.words,
            seed=int.from_bytes(hashlib.blake2b(request.samples, digest_size=8).digest(), "little"),
            max_tokens=half,
            trace=request.trace,
        )

    def _check(self, request: PieceRequest) -> None:
        languages = self._vocabulary.languages
        if not languages and request.language not in ("", "en"):
            raise InvalidRequest("This model understands English alone: language must be en.", param="language")
        if not languages and request.translate:
            raise InvalidRequest("This model understands English alone and can't translate.", param="model")
        if languages and request.language and request.language not in languages:
            known = ", ".join(sorted(languages))
            raise InvalidRequest(f"This model doesn't know {request.language!r}; it knows {known}.", param="language")
        if request.beginning:
            raise UnsupportedField("Whisper writes a piece from its beginning: leave out beginning.", param="beginning")
        if not 0 <= request.temperature <= 2:
            raise InvalidRequest("temperature must be from 0 to 2.", param="temperature")
        if not 0 < request.repetition_penalty <= 10:
            raise InvalidRequest("repetition_penalty must be above 0, and 10 at most.", param="repetition_penalty")


def _samples(data: bytes) -> Array:
    if len(data) % 4:
        raise InvalidRequest("The samples aren't whole numbers of 32 bits.", param="file")
    samples = np.frombuffer(data, "<f4")
    if len(samples) < mel.HOP:
        raise InvalidRequest("The piece holds no sound.", param="file")
    if len(samples) > LONGEST * EAR_RATE:
        raise InvalidRequest(f"A piece for this model has {LONGEST} seconds at most.", param="file")
    if not np.isfinite(samples).all():
        raise InvalidRequest("Some samples are no numbers.", param="file")
    return samples


def _features(samples: Array, bins: int) -> Array:
    """With silence behind, whose frames are then cut: the sound's last frames must not mirror it."""
    followed = np.concatenate([samples, np.zeros(mel.WINDOW, np.float32)])
    return mel.log_mel(followed, bins)[: len(samples) // mel.HOP]


def _number(config: Mapping[str, object], *names: str) -> int:
    """Whichever of the two ways of naming it the configuration has."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    raise CheckpointUnusable(f"config.json doesn't say {' or '.join(names)}. Fetch the model again.")
