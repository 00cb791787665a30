"""One request in work: its tokens, the text they make, and how its next token is chosen."""

import functools
from collections import deque
from collections.abc import Sequence as Tokens
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engines import wire
from engines.chat.prompt import Prompt, ReplyPlan
from engines.chat.reply import End, Phase, ReplyParser
from engines.decoding.blocks import Chain
from engines.decoding.caches import Cache
from engines.decoding.detokenize import Detokenizer, TokenTable
from engines.decoding.drafts import Draft, Lookup
from engines.decoding.grammar import Grammar, allowed
from engines.decoding.model import Embed, Row
from engines.decoding.penalties import Penalties
from engines.decoding.sampling import Allow, Choice, Choices, Draw, Logits, described
from engines.decoding.stops import StopMatcher
from engines.types import Delta, Done, FinishReason, Timings, TokenLogprob, Usage


@dataclass(eq=False)
class Sequence:
    """`cache` is its own while it isn't in the batch; None before its first token is fed, and after a preemption.

    `tokens` are the prompt's and the answer's. The cache holds `fed` positions, or will when the pass that has begun is
    over; of the first `stored` blocks were taken. `computed` counts what prefill fed. `embed` is how tokens are fed
    where that isn't as tokens.
    """

    id: int
    arrival: int
    prompt: Prompt
    credit: int
    seed: int
    answer: "Answer"
    penalties: Penalties | None
    guide: "Guide | None"
    tokens: list[int] = field(default_factory=list)
    forced: deque[int] = field(default_factory=deque)
    chain: Chain = field(default_factory=Chain)
    cache: Cache | None = None
    embed: Embed | None = None
    lookup: Lookup = field(default_factory=Lookup)
    fed: int = 0
    stored: int = 0
    computed: int = 0
    began: float = 0.0
    first: float = 0.0

    @property
    def made(self) -> int:
        """The tokens of the answer so far."""
        return len(self.tokens) - len(self.prompt.ids)

    @property
    def positions(self) -> int:
        """How many its cache holds when all is fed that can be: the newest token of the answer isn't, unless ahead."""
        return max(self.fed, len(self.tokens) - (self.made > 0))

    @property
    def to_feed(self) -> Tokens[int]:
        """What prefill still has to feed."""
        return self.tokens[self.fed : self.positions]

    def chunk(self, count: int) -> Row:
        """So much of what prefill still has to feed, as it is fed."""
        tokens = self.to_feed[:count]
        return tokens if self.embed is None else self.embed(tokens, self.fed)

    @property
    def told_by_tokens(self) -> bool:
        """Its tokens say what its cache holds. Those that stand for a sound look alike, whatever is heard."""
        return self.prompt.content is None

    @property
    def taken_over(self) -> bool:
        """What others have computed of its tokens may be taken over, and others may take over what it computes."""
        return self.told_by_tokens and not self.scored

    @property
    def scored(self) -> bool:
        """The prompt's own tokens are to have logprobs, so all of it is computed and none taken from a cache."""
        return self.prompt.echo is not None and self.prompt.sampling.logprobs is not None

    @property
    def scores_likeliest(self) -> bool:
        """Its tokens are the likeliest, and each is to have its logprob."""
        return self.prompt.sampling.temperature == 0 and self.prompt.sampling.logprobs == 0

    def choose(self, choices: Choices, row: int) -> Choice:
        """The next token. Raises ValueError if the logits are no numbers."""
        if self.forced:
            token, top = self.forced.popleft(), self.prompt.sampling.logprobs
            return Choice(token) if top is None else described(choices.row(row), token, top)
        return choices.choose(row, self._draw())

    @property
    def foreseen(self) -> bool:
        """Its next token is the likeliest, and only an end in that token itself can keep it from having one behind."""
        more = self.credit > 1 and self.made + 1 < self.prompt.max_tokens
        return more and not self.forced and self._draw().is_plain

    def draft(self, most: int) -> Draft | None:
        """What to try as its next tokens, at most so many that another may still follow and be sent."""
        most = min(most, self.credit - 1, self.prompt.max_tokens - self.made - 1)
        if most < 1:
            return None
        certain = tuple(self.forced)[:most] or (self.guide.forced(self.answer, most) if self.guide is not None else ())
        if certain:
            return Draft(certain, certain=True)
        probable = self.lookup.propose(self.tokens, most) if self.told_by_tokens else ()
        return Draft(probable) if probable else None

    def accept(self, choice: Choice, ends: bool) -> tuple[Delta | None, FinishReason | None]:
        """Take a token in: what it lets the client see, and why the answer ends with it, if it does.

        `ends`: it is one of the model's ends of an answer.
        """
        self.tokens.append(choice.token)
        if self.penalties is not None:
            self.penalties.count(choice.token)
        if self.guide is not None:
            self.guide.accept(choice.token)
        thinking = self.answer.thinking
        reason = self.answer.accept(choice, ends, self.made >= self.prompt.max_tokens)
        if reason is None:
            self._lead(thinking)
        return self.answer.take(), reason

    def usage(self) -> Usage:
        prompt = len(self.prompt.ids)
        return Usage(prompt, self.made, max(0, prompt - self.computed), self.answer.reasoning_tokens)

    def _draw(self) -> Draw:
        allow = self.guide.allow(self.answer) if self.guide is not None else None
        return Draw(self.prompt.sampling, self.seed, self.made, self.penalties, allow)

    def _lead(self, was_thinking: bool) -> None:
        """Close a thought that has used up its tokens; bring one that ended to the answer that must follow."""
        plan = self.prompt.reply
        if plan is None or self.forced:
            return
        if self.answer.thinking and plan.budget is not None and self.answer.reasoning_tokens >= plan.budget:
            self.forced.extend(plan.closing)
        elif was_thinking and not self.answer.thinking and self.guide is not None and self.guide.follows_thought:
            self.forced.extend(plan.behind)


class Reader(Protocol):
    """What reads an answer: text in any pieces → what is to be shown."""

    @property
    def phase(self) -> Phase: ...

    @property
    def ended(self) -> bool:
        """Nothing more that is shown can follow."""
        ...

    def feed(self, text: str) -> Tokens[Delta]: ...

    def finish(self, *, cut: bool) -> End: ...


class Answer:
    """The text side of a sequence: tokens in, what a client may see out. `reader` None: as the prompt's plan says."""

    def __init__(self, prompt: Prompt, table: TokenTable, reader: Reader | None = None) -> None:
        plan = prompt.reply
        self._table = table
        self._detokenizer = Detokenizer(table)
        self._stops = StopMatcher(prompt.sampling.stop)
        self._parser = reader or (_parser(plan) if plan is not None else None)
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

    def done(self, reason: FinishReason, usage: Usage, timings: Timings) -> wire.End:
        """The last event."""
        return Done(reason, usage, timings, self.unfinished_calls, self.unfinished_text)

    def _feed(self, text: str) -> bool:
        """Whether a stop string was met."""
        if not text:
            return False
        return self._show(self._parser.feed(text) if self._parser is not None else [Delta(text)])

    def _show(self, deltas: Tokens[Delta]) -> bool:
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


class Guide:
    """Grammars at work, their masks made beside the step thread: one for all that follows the thought, or one for
    the inside of each call, which begins anew with it."""

    def __init__(
        self, grammar: Grammar | None, call: Grammar | None, opening: int | None, eos: frozenset[int], masks: Executor
    ) -> None:
        self._answers = grammar
        self._calls = call
        self._opening = opening
        self._eos = np.array(sorted(eos), np.intp)
        self._masks = masks
        self._active: Grammar | None = None
        self._mask: Future[npt.NDArray[np.uint32]]
        self._guiding = False
        self._activate(grammar)

    @property
    def follows_thought(self) -> bool:
        """Whether what comes directly behind a thought is bound."""
        return self._answers is not None

    def allow(self, answer: Answer) -> Allow | None:
        """What the next token may be, by where the answer is; None: anything."""
        self._guiding = False
        if answer.phase == "thinking":
            return self._no_end if self._answers is not None else None
        if self._answers is None:
            in_call = answer.phase == "call"
            if in_call != (self._active is not None):
                self._activate(self._calls.copy() if in_call and self._calls is not None else None)
        if self._active is None:
            return None
        self._guiding = True
        return functools.partial(self._masked, self._opening if answer.phase == "start" else None)

    def forced(self, answer: Answer, most: int) -> tuple[int, ...]:
        """At most `most` tokens that must come next, by where the answer is."""
        self.allow(answer)
        if not self._guiding or self._active is None or (answer.phase == "start" and self._opening is not None):
            return ()
        return self._active.forced(self._mask.result(), most)

    def accept(self, token: int) -> None:
        """The token that was chosen after `allow`; forced ones belong to a thought and are none of the grammar's."""
        guiding, self._guiding = self._guiding, False
        if guiding and self._active is not None and token != self._opening:
            self._active.accept(token)
            self._activate(self._active)

    def _activate(self, grammar: Grammar | None) -> None:
        self._active = grammar
        if grammar is not None:
            self._mask = self._masks.submit(grammar.mask)

    def _masked(self, opening: int | None, logits: Logits) -> Logits:
        masked = allowed(self._mask.result(), logits)
        if opening is not None:
            masked[opening] = logits[opening]
        return masked

    def _no_end(self, logits: Logits) -> Logits:
        """A thought without an answer would be no document."""
        logits = logits.copy()
        logits[self._eos] = -np.inf
        return logits


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


def _parser(plan: ReplyPlan) -> ReplyParser:
    return ReplyParser(plan.tools, thinking=plan.thinking, separate=plan.separate, parallel=plan.parallel)
