"""Grammars at work: which tokens may come next, by where an answer is."""

import functools
from concurrent.futures import Executor, Future

import numpy as np
import numpy.typing as npt

from engines.runner.generation.grammar.compiler import Grammar, allowed
from engines.runner.generation.output_text import OutputText
from engines.runner.generation.sampling.sampler import Allow, Logits


class GrammarState:
    """One grammar for all that follows the thought, or one for the inside of each call, which begins anew with it.

    Their masks are made beside the step thread.
    """

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

    def allow(self, answer: OutputText) -> Allow | None:
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

    def forced(self, answer: OutputText, most: int) -> tuple[int, ...]:
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
