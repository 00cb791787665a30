"""One request in work: its tokens, what its cache holds of them, and how its next token is chosen."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.runner.generation.grammar.grammar_state import GrammarState
from engines.runner.generation.kv.blocks import Chain
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.model import Embed, Row
from engines.runner.generation.output_text import OutputText
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.sampling.penalties import Penalties
from engines.runner.generation.sampling.sampler import Choice, Choices, Draw, described
from engines.runner.generation.speculation import Draft, Lookup
from engines.types.chat import Delta, FinishReason
from engines.types.common import Usage


@dataclass(eq=False)
class SequenceState:
    """`cache` is its own while it isn't in the batch; None before its first token is fed, and after a preemption.

    `tokens` are the prompt's and the answer's. The cache holds `num_computed` positions, or will when the pass that has
    begun is over; of the first `stored` blocks were taken. `computed` counts what prefill fed. `embed` is how tokens
    are fed where that isn't as tokens.
    """

    id: int
    arrival: int
    prompt: Prompt
    credit: int
    seed: int
    answer: OutputText
    penalties: Penalties | None
    guide: GrammarState | None
    chain: Chain
    tokens: list[int] = field(default_factory=list)
    forced: deque[int] = field(default_factory=deque)
    cache: Cache | None = None
    embed: Embed | None = None
    lookup: Lookup = field(default_factory=Lookup)
    num_computed: int = 0
    stored: int = 0
    computed: int = 0
    began: float = 0.0
    first: float = 0.0

    @property
    def trace(self) -> str:
        return self.prompt.trace

    @property
    def order(self) -> tuple[bool, int]:
        """The order in which sequences are prefilled, and keep their caches: interactive ones first, then by age."""
        return self.prompt.background, self.arrival

    @property
    def num_output(self) -> int:
        """The tokens of the answer so far."""
        return len(self.tokens) - len(self.prompt.ids)

    @property
    def positions(self) -> int:
        """How many its cache holds when all is fed that can be: the newest token of the answer isn't, unless ahead."""
        return max(self.num_computed, len(self.tokens) - (self.num_output > 0))

    @property
    def to_feed(self) -> Sequence[int]:
        """What prefill still has to feed."""
        return self.tokens[self.num_computed : self.positions]

    def chunk(self, count: int) -> Row:
        """So much of what prefill still has to feed, as it is fed."""
        tokens = self.to_feed[:count]
        return tokens if self.embed is None else self.embed(tokens, self.num_computed)

    @property
    def stores_answer(self) -> bool:
        """The blocks of its answer are stored beside those of its prompt: conversations go on after their answers.

        A recording's text is no beginning of another prompt, and to store it would hold up the next pass.
        """
        return not self.prompt.spans

    @property
    def uses_prefix_cache(self) -> bool:
        """What others have computed of its tokens may be taken over, and others may take over what it computes."""
        return not self.scored

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
        more = self.credit > 1 and self.num_output + 1 < self.prompt.max_tokens
        return more and not self.forced and self._draw().is_plain

    def draft(self, most: int) -> Draft | None:
        """What to try as its next tokens, at most so many that another may still follow and be sent."""
        most = min(most, self.credit - 1, self.prompt.max_tokens - self.num_output - 1)
        if most < 1:
            return None
        certain = tuple(self.forced)[:most] or (self.guide.forced(self.answer, most) if self.guide is not None else ())
        if certain:
            return Draft(certain, certain=True)
        probable = () if self.prompt.spans else self.lookup.propose(self.tokens, most)
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
        reason = self.answer.accept(choice, ends, self.num_output >= self.prompt.max_tokens)
        if reason is None:
            self._lead(thinking)
        return self.answer.take(), reason

    def usage(self) -> Usage:
        prompt = len(self.prompt.ids)
        return Usage(prompt, self.num_output, max(0, prompt - self.computed), self.answer.reasoning_tokens)

    def _draw(self) -> Draw:
        allow = self.guide.allow(self.answer) if self.guide is not None else None
        return Draw(self.prompt.sampling, self.seed, self.num_output, self.penalties, allow)

    def _lead(self, was_thinking: bool) -> None:
        """Close a thought that has used up its tokens; bring one that ended to the answer that must follow."""
        if self.forced:
            return
        thought = self.prompt.thought
        if self.answer.thinking and thought.budget is not None and self.answer.reasoning_tokens >= thought.budget:
            self.forced.extend(thought.closing)
        elif was_thinking and not self.answer.thinking and self.guide is not None and self.guide.follows_thought:
            self.forced.extend(thought.behind)
