"""A request → the ids of its prompt, with all that can be checked before. Runs beside the step thread."""

import math
from pathlib import Path

import msgspec

from engines.models.model_files import read_json
from engines.models.voices import Speakers, read_speakers
from engines.runner.patience import Patience
from engines.runner.qwen3_tts.tokens import TextTokens
from engines.runner.tokenization.encoding import TooManyTokens, too_long
from engines.types.audio import VOICE_RATE, UtteranceRequest
from engines.types.errors import ContextLengthExceeded, InvalidRequest
from engines.types.voice_reference import check_reference

FRAME_SAMPLES = 1920  # of the 12 Hz codec
FRAMES_A_SECOND = VOICE_RATE / FRAME_SAMPLES


class Utterance(msgspec.Struct, frozen=True):
    """What to speak, in ids of text tokens, and with which of the codec's control tokens.

    `reference` is float32 samples of a voice, in which `reference_text` is spoken; without ids there, of the voice
    alone. `seed` None draws a fresh one.
    """

    role: tuple[int, ...]
    text: tuple[int, ...]
    max_frames: int
    instructions: tuple[int, ...] = ()
    speaker: int | None = None
    language: int | None = None
    reference: bytes = b""
    reference_text: tuple[int, ...] = ()
    seed: int | None = None
    trace: str = ""

    @property
    def prompt_tokens(self) -> int:
        control = (3 if self.language is None else 4) + (self.speaker is not None or bool(self.reference)) + 1
        spoken = len(self.instructions) + len(self.role) + control + len(self.text) + 2
        if not self.reference_text:
            return spoken
        return spoken + len(self.reference_text) + math.ceil(len(self.reference) / 4 / FRAME_SAMPLES)

    @property
    def max_tokens(self) -> int:
        return self.max_frames


class UtteranceWriter:
    """`Preparer[UtteranceRequest, Utterance]` of one checkpoint."""

    def __init__(self, tokens: TextTokens, speakers: Speakers, context_length: int) -> None:
        self._tokens = tokens
        self._speakers = speakers
        self._context_length = context_length

    @classmethod
    def read(cls, folder: Path, context_limit: int) -> "UtteranceWriter":
        """Raises `CheckpointUnusable`."""
        speakers = read_speakers(folder)
        talker = read_json(folder / "config.json")["talker_config"]
        length = min(talker.get("max_position_embeddings", context_limit), context_limit)
        return cls(TextTokens.read(folder), speakers, length)

    @property
    def context_length(self) -> int:
        return self._context_length

    def write(self, request: UtteranceRequest, patience: Patience | None = None) -> Utterance:
        """Raises `InvalidRequest` for what this model can't do, `ContextLengthExceeded` for what is too long."""
        self._check_kind(request)
        self._check_lengths(request)
        text = self._tokens.plain(request.text.strip())
        if not text:
            raise InvalidRequest("There is nothing to speak: input is empty.", param="input")
        speaker = self._speakers.named(request.voice) if self._speakers.kind == "custom_voice" else ""
        instructions = request.instructions.strip()
        made = Utterance(
            role=self._tokens.role,
            text=text,
            max_frames=_frames(request.max_seconds),
            instructions=self._tokens.instructions(instructions) if instructions else (),
            speaker=self._speakers.speakers[speaker] if speaker else None,
            language=self._speakers.language_id(request.language, speaker),
            reference=request.reference,
            reference_text=self._tokens.plain(request.reference_text.strip()),
            seed=request.seed,
            trace=request.trace,
        )
        if made.prompt_tokens + made.max_tokens > self._context_length:
            raise ContextLengthExceeded(
                f"This model's context is {self._context_length} tokens; the text takes {made.prompt_tokens}, and "
                f"{made.max_tokens} are kept for its sound. Shorten the input.",
                param="input",
            )
        return made

    def _check_lengths(self, request: UtteranceRequest) -> None:
        """Raises `ContextLengthExceeded` for a text that is too long whatever else there is."""
        texts = {"input": request.text, "instructions": request.instructions, "reference_text": request.reference_text}
        for param, text in texts.items():
            try:
                self._tokens.check(text, self._context_length)
            except TooManyTokens as error:
                raise too_long(self._context_length, error, param) from error

    def _check_kind(self, request: UtteranceRequest) -> None:
        kind = self._speakers.kind
        if request.instructions.strip() and not self._speakers.instructed:
            message = "This model takes no instructions on how to speak"
            better = "leave them out, or use a CustomVoice model of 1.7B"
            raise InvalidRequest(f"{message}: {better}.", param="instructions")
        if kind == "base":
            self._check_imitation(request)
        elif request.reference or request.reference_text:
            message = "This model speaks with its own voices and imitates none"
            raise InvalidRequest(f"{message}: use a Base model (qwen3-tts-base) for that.", param="reference_audio")
        if kind == "voice_design" and (request.voice or not request.instructions.strip()):
            message = "This model designs a voice from a description: give it as instructions, and no voice."
            raise InvalidRequest(message, param="voice" if request.voice else "instructions")

    def _check_imitation(self, request: UtteranceRequest) -> None:
        if not request.reference:
            named = f"has no voice {request.voice[:60]!r}" if request.voice else "has no voices of its own"
            message = f"This model {named}: give a recording of one as reference_audio, or the name of a stored voice."
            raise InvalidRequest(message, param="voice" if request.voice else "reference_audio")
        if request.voice:
            raise InvalidRequest("Give a voice or a recording of one, not both.", param="voice")
        check_reference(request.reference)


def _frames(max_seconds: float) -> int:
    if not (math.isfinite(max_seconds) and max_seconds > 0):
        raise InvalidRequest("max_seconds must be a number above 0.", param="max_seconds")
    return math.ceil(max_seconds * FRAMES_A_SECOND)
