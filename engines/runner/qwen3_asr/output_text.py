"""What Qwen3-ASR writes, `language NAME<asr_text>` and then what was said → text and a language. Pure."""

from typing import Literal

import msgspec

from engines.ipc import runner_protocol
from engines.runner.generation.output_parser import End, Phase
from engines.runner.generation.output_text import OutputText
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.sampling.sampler import Choice
from engines.runner.qwen3_asr.output_markup import MarkupParser, header_alone
from engines.runner.tokenization.detokenize import TokenTable
from engines.text import languages
from engines.transcription.partial_text import MAY_BE_NOBODY, NOBODY
from engines.types.audio import PieceDone, PieceText, Segment
from engines.types.chat import Delta, FinishReason
from engines.types.common import Timings, Usage

NONE = "None"
_NAMES = languages.names_of_qwen()


def _may_lead(text: str) -> bool:
    """Whether it may become a language, or nobody's words, with nothing before it."""
    name = text.strip()
    return MAY_BE_NOBODY.fullmatch(text) is not None or any(one.startswith(name) for one in _NAMES)


class LanguageReader:
    """A `Reader` of an answer, in any pieces. `begun`: text has begun, at once where the prompt held the language.

    An answer without markup is text from its beginning. `name` is the language as the model calls it: the first one in
    which something is said. What it writes as the words of nobody (language None) is no text; nor is "None", once or
    again and again, where it was to tell the language and did so by that alone.
    """

    phase: Phase = "answer"
    ended = False

    def __init__(self, begun: bool) -> None:
        self.begun = begun
        self.name = ""
        self._prompted = begun
        self._marks = MarkupParser()
        self._of_nobody = False
        self._shown = False
        self._lead = ""  # text at the beginning that may be all of a header that there is

    @property
    def no_speech(self) -> bool:
        """The model says that nobody speaks."""
        return bool(self.name) and not languages.code_of(self.name) and not self._shown and self._of_nobody

    def feed(self, text: str) -> list[Delta]:
        deltas: list[Delta] = []
        for part in self._marks.feed(text):
            if isinstance(part, str):
                deltas += self._text(part)
            elif part.name is not None:
                deltas += self._let_go(NOBODY.fullmatch(self._lead) is not None)
                self._head(part.name)
            else:
                deltas += self._marked()
        return deltas

    def finish(self, *, cut: bool) -> End:
        """No more text comes. A language without a mark behind it is no text where it is all there is."""
        text, held = self._marks.finish()
        deltas = self._text(text)
        if alone := header_alone(held):
            name, is_marked = alone
            is_name = bool(name) and languages.code_of(name) is not None
            if (is_marked and is_name) or (not self._shown and (is_name or (cut and not self._prompted))):
                self._head(name)
                held = ""
        deltas += self._text(held)
        if not self._prompted and NOBODY.fullmatch(self._lead):
            self._head(NONE)
            self._lead = ""
        return End((*deltas, *self._let_go()), (), "", called=False)

    def _head(self, name: str) -> None:
        self.begun = True
        self._of_nobody = bool(name) and languages.code_of(name) == ""
        if not self._shown:
            self.name = name

    def _marked(self) -> list[Delta]:
        """A mark alone: what is before it is the language, if there is nothing else and it is one."""
        lead = self._lead.strip()
        name = NONE if NOBODY.fullmatch(lead) else lead if lead in _NAMES else ""
        if name:
            self._head(name)
        return self._let_go(bool(name))

    def _let_go(self, in_vain: bool = False) -> list[Delta]:
        """The text at the beginning, which is known to be some, or `in_vain` to be none."""
        lead, self._lead = self._lead, ""
        if in_vain or not lead:
            return []
        self._shown = self._shown or bool(lead.strip())
        return [Delta(lead)]

    def _text(self, text: str) -> list[Delta]:
        if not text or self._of_nobody:
            return []
        if not self._shown and not self.name:
            self._lead += text
            if _may_lead(self._lead):
                return []
            text, self._lead = self._lead, ""
        self.begun = True
        self._shown = self._shown or bool(text.strip())
        return [Delta(text)]


class PieceReading(msgspec.Struct, frozen=True):
    """How the answer about a piece of `seconds` is to be read. `Reading`.

    `language` is the code that was asked for, "" when the model is to name it. `beginning` is text at the prompt's end.
    """

    seconds: float
    language: str = ""
    beginning: str = ""

    def reader(self) -> LanguageReader:
        return LanguageReader(begun=bool(self.language or self.beginning))


class PieceAnswer(OutputText):
    """The text side of a piece; `Prompt.reply` is its `PieceReading`."""

    def __init__(self, prompt: Prompt, table: TokenTable) -> None:
        assert isinstance(prompt.reply, PieceReading)
        reader = prompt.reply.reader()
        super().__init__(prompt, table, reader)
        self._piece = prompt.reply
        self._temperature = prompt.sampling.temperature
        self._reader = reader
        self._text = [prompt.reply.beginning]
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
        return self._piece.language or languages.code_of(self._reader.name.split(",")[0]) or ""

    def done(self, reason: FinishReason, usage: Usage, timings: Timings) -> runner_protocol.End:
        text = "".join(self._text)
        quality = sum(self._logprobs) / len(self._logprobs) if self._logprobs else None
        segment = Segment(
            0.0,
            self._piece.seconds,
            text,
            approximate=True,
            avg_logprob=quality,
            temperature=self._temperature,
        )
        segments = (segment,) if text.strip() else ()
        no_speech = self._reader.no_speech  # however often it says so
        ended: Literal["stop", "length"] = "length" if reason == "length" and not no_speech else "stop"
        return PieceDone(segments, self._language, ended, usage, timings, no_speech=no_speech)
