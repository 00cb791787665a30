"""Prompts of exactly so many tokens, as messages and as ids."""

import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from bench.checkpoints.chat import CONTEXT, WORDS
from bench.streams import Ask, BenchFailed
from engines.runner.chat.prompt import PromptWriter
from engines.types.chat import ChatRequest, Message, Sampling


class Prompts:
    """Of one checkpoint. The same `seed` gives the same words; different ones share no prefix but the template's."""

    def __init__(self, folder: Path) -> None:
        self._writer = PromptWriter.read(folder, CONTEXT)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def ask(self, messages: Sequence[Message], max_tokens: int, after: int = 0) -> Ask:
        prompt = self._writer.write(ChatRequest("bench", tuple(messages), Sampling(max_tokens=max_tokens), "bench"))
        return Ask(tuple(messages), prompt.ids, max_tokens, after)

    def of_length(self, tokens: int, max_tokens: int, seed: str, after: int = 0) -> Ask:
        """One user turn; `tokens` counts the template's as well."""
        around = len(self.ask([Message("user", words(1, seed))], max_tokens).ids) - 1
        ask = self.ask([Message("user", words(tokens - around, seed))], max_tokens, after)
        if len(ask.ids) != tokens:
            raise BenchFailed(f"a prompt has {len(ask.ids)} tokens where {tokens} were meant")
        return ask


def words(count: int, seed: str) -> str:
    """As many tokens as words."""
    return "".join(random.Random(seed).choices(WORDS, k=max(1, count)))
