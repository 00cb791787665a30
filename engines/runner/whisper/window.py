"""One piece in work: the window it is at, what was said there, and what is told of it. Nothing is computed here."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import msgspec

from engines.ipc import runner_protocol
from engines.runner.tokenization.detokenize import Detokenizer, TokenTable
from engines.runner.whisper import rules, words
from engines.runner.whisper.caches import CacheRow
from engines.runner.whisper.figures import compression_ratio
from engines.runner.whisper.prepare import WhisperPrompt
from engines.runner.whisper.rules import Figures, Span, WindowSpans
from engines.runner.whisper.token_choice import WhisperChoice, WhisperDraw, seed_of
from engines.runner.whisper.vocabulary import STEPS_PER_SECOND, Vocabulary
from engines.types.audio import PieceDone, Segment
from engines.types.chat import Delta
from engines.types.common import Timings, Usage

FRAMES_PER_STEP = 2
SHORTEST = 10  # frames; a rest that is shorter holds no word
MOST_WINDOWS = 8  # of a piece that never comes to its end
_SPELLED_OUT = re.compile(r"<\|[^|<>\s]{1,40}\|>")  # control tokens, written as text


@dataclass
class Window:
    """A stretch of the piece that is being decoded: `begin` and `frames` of 10 ms, and what was `said` there.

    `opening` are the logits [1, vocabulary] behind its prompt. `row` is its own while it isn't in the batch. `limit`
    are the tokens that may be said, `cut` that they were.
    """

    begin: int
    frames: int
    prompt: tuple[int, ...]
    limit: int
    opening: mx.array
    no_speech_prob: float | None
    row: CacheRow | None = None
    said: list[int] = field(default_factory=list)
    logprob: float = 0.0
    attempt: int = 0
    cut: bool = False

    @property
    def steps(self) -> int:
        """Of 20 ms."""
        return -(-self.frames // FRAMES_PER_STEP)

    def start(self, attempt: int) -> None:
        self.said, self.logprob, self.attempt, self.cut = [], 0.0, attempt, False

    def accept(self, choice: WhisperChoice, end: int) -> bool:
        """Note the next token. True if it was the last. Raises ValueError if the model's logits are no numbers."""
        if choice.logprob != choice.logprob:
            raise ValueError("the logits are no numbers")
        self.logprob += choice.logprob
        if choice.token == end:
            return True
        self.said.append(choice.token)
        self.cut = len(self.said) >= self.limit
        return self.cut


@dataclass
class AcceptedWindow:
    """A window's segments, to be told; `spans` are what they were made of, for the times of their words.

    `closed`: the model said when the last of them ends.
    """

    window: Window
    spans: list[Span]
    segments: list[Segment]
    closed: bool


@dataclass(eq=False)
class WindowState:
    """`begin` is the frame at which the next window begins; `untold` is text that waits for credit.

    `language` is a code, "" until it is heard.
    """

    id: int
    piece: WhisperPrompt
    credit: int
    language: str
    began: float
    first: float = 0.0
    begin: int = 0
    windows: int = 0
    window: Window | None = None
    accepted: AcceptedWindow | None = None
    segments: list[Segment] = field(default_factory=list)
    untold: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: bool = False

    @property
    def trace(self) -> str:
        return self.piece.trace

    @property
    def at_work(self) -> Window:
        assert self.window is not None
        return self.window

    @property
    def is_over(self) -> bool:
        """All windows are decoded."""
        return len(self.piece.features) - self.begin < (SHORTEST if self.begin else 1)

    def draw(self, window: Window, vocabulary: Vocabulary) -> WhisperDraw:
        """How the window's next token is chosen."""
        marks, penalty = vocabulary.marks, self.piece.repetition_penalty
        penalised = {token for token in window.said if token < marks.end} if penalty != 1 else set()
        return WhisperDraw(
            allowed=rules.allowed(window.said, marks),
            temperature=self.piece.temperatures[window.attempt],
            seed=seed_of(self.piece.seed + window.begin, window.attempt, len(window.said)),
            penalised=tuple(sorted(penalised)),
            penalty=penalty,
        )

    def judge(self, window: Window, vocabulary: Vocabulary) -> bool:
        """Whether the window is done: then it is in `accepted`. False: it is to be tried again, hotter."""
        marks = vocabulary.marks
        tokens = [token for token in window.said if token < marks.end]
        figures = Figures(
            avg_logprob=window.logprob / (len(window.said) + 1),
            compression_ratio=compression_ratio("".join(_texts(vocabulary.table, [tokens]))),
            no_speech_prob=window.no_speech_prob,
        )
        verdict = rules.judged(figures)
        if verdict == "failed" and window.attempt + 1 < len(self.piece.temperatures):
            return False
        self.windows += 1
        self.prompt_tokens += len(window.prompt)
        self.completion_tokens += len(window.said)
        end = window.begin + window.frames
        if rules.is_silence(figures):
            self.accepted, self.begin = AcceptedWindow(window, [], [], closed=True), end
            return True
        reading = rules.read(window.said, marks, window.steps, window.cut)
        self.accepted = self._segmented(window, reading, figures, vocabulary.table)
        begin = end if reading.rest is None else window.begin + reading.rest * FRAMES_PER_STEP
        self._go_on(window, begin, cut=window.cut and reading.rest is None)
        return True

    def _go_on(self, window: Window, begin: int, cut: bool) -> None:
        """The next window begins at this frame, unless none can follow: then what isn't told is cut. `cut`: it is
        anyway."""
        self.begin = min(window.begin + window.frames, begin)
        is_stuck = self.begin <= window.begin or (self.windows == MOST_WINDOWS and not self.is_over)
        self.cut = is_stuck or cut
        self.begin = len(self.piece.features) if is_stuck else self.begin

    def _segmented(self, window: Window, reading: WindowSpans, figures: Figures, table: TokenTable) -> AcceptedWindow:
        texts = _texts(table, [span.text for span in reading.spans])
        told = [(span, text) for span, text in zip(reading.spans, texts, strict=True) if text.strip()]
        segments = [
            Segment(
                start=self.at(window, span.first),
                end=self.at(window, span.last),
                text=text,
                avg_logprob=figures.avg_logprob,
                compression_ratio=figures.compression_ratio,
                no_speech_prob=figures.no_speech_prob,
                temperature=self.piece.temperatures[window.attempt],
            )
            for span, text in told
        ]
        return AcceptedWindow(window, [span for span, _ in told], segments, reading.closed)

    def at(self, window: Window, step: int) -> float:
        """Seconds from the beginning of the piece."""
        return min(window.begin / (STEPS_PER_SECOND * FRAMES_PER_STEP) + step / STEPS_PER_SECOND, self.piece.seconds)

    def place_words(self, accepted: AcceptedWindow, timed: Sequence[words.Timed]) -> None:
        """Give each segment its words, timed from the window's beginning; a word that spans two is the first's.

        Where the model didn't say when the last of them ends, the next window begins behind the last word, as in the
        reference: one that only begins at the window's end is heard again.
        """
        shift = accepted.window.begin / (STEPS_PER_SECOND * FRAMES_PER_STEP)
        place, taken, wanted = 0, 0, 0
        for index, (span, segment) in enumerate(zip(accepted.spans, accepted.segments, strict=True)):
            wanted += len(span.text)
            begin = place
            while place < len(timed) and taken < wanted:
                taken += timed[place].tokens
                place += 1
            placed = words.placed(timed[begin:place], shift, segment.start, segment.end)
            accepted.segments[index] = msgspec.structs.replace(segment, words=placed)
        last = words.last_end(timed, shift, accepted.segments[-1].end)
        if not accepted.closed and last > shift and self.windows < MOST_WINDOWS:
            ended = accepted.segments[-1]
            accepted.segments[-1] = msgspec.structs.replace(ended, end=max(min(ended.end, last), ended.start))
            self._go_on(accepted.window, round(last * STEPS_PER_SECOND * FRAMES_PER_STEP), cut=False)

    def close(self) -> None:
        """The accepted window's segments are whole: its text can be told."""
        assert self.accepted is not None
        self.segments += self.accepted.segments
        self.untold += "".join(segment.text for segment in self.accepted.segments)
        self.accepted = self.window = None

    def tell(self) -> list[runner_protocol.Said]:
        """What waits, if there is credit for it."""
        if not self.untold or self.credit <= 0:
            return []
        text, self.untold = self.untold, ""
        self.credit -= 1
        return [runner_protocol.Said(self.id, Delta(text))]

    def finished(self) -> runner_protocol.Finished:
        done = PieceDone(
            segments=tuple(self.segments),
            language=self.language,
            finish_reason="length" if self.cut else "stop",
            usage=Usage(self.prompt_tokens, self.completion_tokens),
            timings=Timings(0.0, self.first - self.began, time.monotonic() - self.first),
        )
        return runner_protocol.Finished(self.id, done)


def _texts(table: TokenTable, spans: Sequence[Sequence[int]]) -> list[str]:
    """The text of each span. A character that two of them share is the second's."""
    detokenizer = Detokenizer(table)
    texts = ["".join(map(detokenizer.feed, span)) for span in spans]
    whole = [*texts[:-1], texts[-1] + detokenizer.flush()] if texts else []
    return [_SPELLED_OUT.sub("", text) for text in whole]
