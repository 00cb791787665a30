"""The text side of a sequence: tokens in, what a client may see out."""

from collections.abc import Sequence

from engines.ipc import runner_protocol
from engines.runner.generation.output_parser import OutputParser, Phase
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.sampling.sampler import Choice
from engines.runner.generation.stop_strings import StopMatcher
from engines.runner.tokenization.detokenize import Detokenizer, TokenTable
from engines.types.chat import Delta, Done, FinishReason, TokenLogprob
from engines.types.common import Timings, Usage


class OutputText:
    """`reader` None: the one that the prompt names."""

    def __init__(self, prompt: Prompt, table: TokenTable, reader: OutputParser | None = None) -> None:
        self._table = table
        self._detokenizer = Detokenizer(table, prompt.continues)
        self._stops = StopMatcher(prompt.sampling.stop)
        self._parser = reader or (prompt.reply.reader() if prompt.reply is not None else None)
        self._wants_logprobs = prompt.sampling.logprobs is not None
        self._pending: list[TokenLogprob] = []
        self._out: list[Delta] = []
        self.unfinished_calls: tuple[int, ...] = ()
        self.unfinished_text = ""
        self.reasoning_tokens = 0

    @property
    def phase(self) -> Phase:
        """Where the model is in its answer."""
        return "answer" if self._parser is None else self._parser.phase

    @property
    def thinking(self) -> bool:
        return self.phase == "thinking"

    def say(self, text: str) -> None:
        """Text that isn't the model's, with what was noted of its tokens."""
        if text:
            self._put(Delta(text))

    def note(self, choice: Choice) -> None:
        """The next text that is shown was made of this token."""
        bytes_of = self._table.bytes_of
        top = tuple((id, bytes_of(id), logprob) for id, logprob in choice.top)
        self._pending.append(TokenLogprob(choice.token, bytes_of(choice.token), choice.logprob, top))

    def accept(self, choice: Choice, ends: bool, full: bool) -> FinishReason | None:
        """A token of the model's; `full`: no more may follow."""
        was_thinking = self.thinking
        if ends:
            return self._finish("stop", cut=False)
        if self._wants_logprobs:
            self.note(choice)
        stopped = self._feed(self._detokenizer.feed(choice.token))
        self.reasoning_tokens += was_thinking or self.thinking
        if stopped:
            return self._stopped()
        if self._parser is not None and self._parser.ended:
            return self._finish("stop", cut=False)
        return self._finish("length", cut=True) if full else None

    def end(self) -> None:
        """Cut here, for a reason that isn't the model's."""
        self._finish("length", cut=True)

    def take(self) -> Delta | None:
        """All that may be shown since the last time."""
        out, self._out = self._out, []
        if len(out) < 2:
            return out[0] if out else None
        return Delta(
            "".join(delta.text for delta in out),
            "".join(delta.reasoning for delta in out),
            tuple(call for delta in out for call in delta.calls),
            tuple(one for delta in out for one in delta.logprobs),
        )

    def done(self, reason: FinishReason, usage: Usage, timings: Timings) -> runner_protocol.End:
        """The last event."""
        return Done(reason, usage, timings, self.unfinished_calls, self.unfinished_text)

    def _feed(self, text: str) -> bool:
        """Whether a stop string was met."""
        if not text:
            return False
        return self._show(self._parser.feed(text) if self._parser is not None else [Delta(text)])

    def _show(self, deltas: Sequence[Delta]) -> bool:
        for delta in deltas:
            text, stopped = self._stops.feed(delta.text) if delta.text else ("", False)
            self._put(Delta(text, delta.reasoning, delta.calls))
            if stopped:
                return True
        return False

    def _put(self, delta: Delta) -> None:
        if delta.text:
            logprobs, self._pending = _made_of(delta.text.encode(), self._pending)
            self._out.append(Delta(delta.text, delta.reasoning, delta.calls, logprobs))
        elif delta.reasoning or delta.calls:
            self._pending = []  # these are told of the answer's text alone
            self._out.append(delta)

    def _finish(self, reason: FinishReason, cut: bool) -> FinishReason:
        """Show what was held back as half a character, half a mark or half a stop string."""
        if self._feed(self._detokenizer.flush()):
            return self._stopped()
        called = False
        if self._parser is not None:
            end = self._parser.finish(cut=cut)
            self.unfinished_calls, self.unfinished_text = end.unfinished_calls, end.unfinished_text
            called = end.called
            if self._show(end.deltas):
                return "tool_calls" if called else "stop"
        self._put(Delta(self._stops.flush()))
        return "tool_calls" if called and reason == "stop" else reason

    def _stopped(self) -> FinishReason:
        """A stop string ends the answer where it stood: what the parser holds lies behind it."""
        called = self._parser is not None and self._parser.finish(cut=False).called
        return "tool_calls" if called else "stop"


def _made_of(text: bytes, pending: list[TokenLogprob]) -> tuple[tuple[TokenLogprob, ...], list[TokenLogprob]]:
    """Of the tokens since the last text: those that this text was made of, and those behind it.

    Those before it were markup. Where the text isn't in them as it is (it holds U+FFFD), it was made of all.
    """
    start = b"".join(one.token for one in pending).find(text)
    if start < 0:
        return tuple(pending), []
    end = start + len(text)
    made: list[TokenLogprob] = []
    behind: list[TokenLogprob] = []
    place = 0
    for one in pending:
        if place >= end:
            behind.append(one)
        elif place + len(one.token) > start:
            made.append(one)
        place += len(one.token)
    return tuple(made), behind
