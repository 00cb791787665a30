"""What makes tokens likelier or less likely than the model thinks: penalties and biases of one sequence. Pure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engines.types.chat import Sampling

Logits = npt.NDArray[np.float32]


class Penalties:
    """Counts a sequence's tokens; `applied` costs by the number of different ones.

    Presence and frequency count the answer's tokens, all of them, as OpenAI defines it; repetition looks at prompt and
    answer (Keskar et al., 2019): a positive logit is divided by it, a negative one multiplied.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._counts: dict[int, int] = {}
        self._seen = dict.fromkeys(prompt) if sampling.repetition_penalty != 1 else {}
        self._bias_ids = np.array([id for id, _ in sampling.logit_bias], np.intp)
        self._bias = np.array([value for _, value in sampling.logit_bias], np.float32)

    @classmethod
    def of(cls, sampling: Sampling, prompt: Sequence[int]) -> "Penalties | None":
        """None where there is nothing to apply."""
        neutral = not (sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias)
        return None if neutral and sampling.repetition_penalty == 1 else cls(sampling, prompt)

    def count(self, token: int) -> None:
        """The answer has grown by this token."""
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._sampling.repetition_penalty != 1:
            self._seen[token] = None

    def applied(self, logits: Logits) -> Logits:
        """New logits [vocabulary]."""
        logits = logits.copy()
        if self._seen:
            ids = np.fromiter(self._seen, np.intp, len(self._seen))
            penalty = np.float32(self._sampling.repetition_penalty)
            logits[ids] = np.where(logits[ids] > 0, logits[ids] / penalty, logits[ids] * penalty)
        if self._counts:
            ids = np.fromiter(self._counts, np.intp, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits[ids] -= self._sampling.presence_penalty + self._sampling.frequency_penalty * counts
        logits[self._bias_ids] += self._bias
        return logits
