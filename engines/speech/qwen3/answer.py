"""What Qwen3-ASR writes, `language NAME<asr_text>` and then what was said → text and a language. Pure."""

from typing import Literal

from engines import wire
from engines.audio_types import PieceDone, PieceText, Segment
from engines.decoding.answer import Answer
from engines.decoding.detokenize import TokenTable
from engines.decoding.prompt import Prompt
from engines.decoding.reader import End, Phase
from engines.decoding.sampling import Choice
from engines.speech import languages
from engines.speech.qwen3.sound import Sound
from engines.types import Delta, FinishReason, Timings, Usage

LANGUAGE, TEXT = "language ", "<asr_text>"
LONGEST_NAME = 40  # characters; "language" with more behind it is what somebody said


class LanguageReader:
    """A `Reader` of an answer, in any pieces. `begun`: text has begun, at once where the prompt held the language.

    An answer without the mark is text from its beginning. Marks that come later are left out. `name` is the language
    as the model calls it.
    """

    phase: Phase = "answer"
    ended = False

    def __init__(self, begun: bool) -> None:
        self.begun = begun
        self.name = ""
        self._held = ""

    def feed(self, text: str) -> list[Delta]:
        self._held += text
        if not self.begun and not self._begin():
            return []
        shown = self._held.replace(TEXT, "")
        kept = _beginning_of_mark(shown)
        self._held = shown[len(shown) - kept :]
        return _deltas(shown[: len(shown) - kept])

    def finish(self, *, cut: bool) -> End:
        """No more text comes. A language without a mark behind it is no text."""
        held, self._held = self._held, ""
        name = held.removeprefix(LANGUAGE)
        if not self.begun and name != held and (cut or languages.code_of(name) is not None):
            self.name, held = name, ""
        return End(tuple(_deltas(held)), (), "", called=False)

    def _begin(self) -> bool:
        """Whether the text has begun: with the mark, or because what is here can't lead to it."""
        named, mark, text = self._held.partition(TEXT)
        if mark and named.startswith(LANGUAGE) and _may_name(named):
            self.name, self._held, self.begun = named.removeprefix(LANGUAGE).strip(), text, True
        elif not _may_name(self._held):
            self.begun = True
        return self.begun


class PieceAnswer(Answer):
    """The text side of a piece; `Prompt.content` is its `Sound`."""

    def __init__(self, prompt: Prompt, table: TokenTable) -> None:
        sound: Sound = prompt.content
        reader = LanguageReader(begun=bool(sound.language or sound.beginning))
        super().__init__(prompt, table, reader)
        self._sound = sound
        self._temperature = prompt.sampling.temperature
        self._reader = reader
        self._text = [sound.beginning]
        self._logprobs: list[float] = []

    def accept(self, choice: Choice, ends: bool, full: bool) -> FinishReason | None:
        if self._reader.begun and choice.logprob is not None:
            self._logprobs.append(choice.logprob)
        return super().accept(choice, ends, full)

    def take(self) -> PieceText | None:
        """Text without logprobs: these are told as one, at the end."""
        delta = super().take()
        if delta is None:
            return None
        self._text.append(delta.text)
        return PieceText(delta.text, language=self._language)

    @property
    def _language(self) -> str:
        """A code: what was asked for, or heard so far."""
        return self._sound.language or languages.code_of(self._reader.name.split(",")[0]) or ""

    def done(self, reason: FinishReason, usage: Usage, timings: Timings) -> wire.End:
        text = "".join(self._text)
        quality = sum(self._logprobs) / len(self._logprobs) if self._logprobs else None
        segment = Segment(
            0.0, self._sound.seconds, text, approximate=True, avg_logprob=quality, temperature=self._temperature
        )
        segments = (segment,) if text.strip() else ()
        ended: Literal["stop", "length"] = "length" if reason == "length" else "stop"
        return PieceDone(segments, self._language, ended, usage, timings)


def _may_name(text: str) -> bool:
    """Whether more text can make this a language with its mark."""
    if len(text) < len(LANGUAGE):
        return LANGUAGE.startswith(text)
    name, opening, mark = text.removeprefix(LANGUAGE).partition(TEXT[0])
    return text.startswith(LANGUAGE) and len(name) <= LONGEST_NAME and TEXT.startswith(opening + mark)


def _beginning_of_mark(text: str) -> int:
    """How many of the last characters may be the beginning of a mark."""
    return next((count for count in range(len(TEXT) - 1, 0, -1) if text.endswith(TEXT[:count])), 0)


def _deltas(text: str) -> list[Delta]:
    return [Delta(text)] if text else []
