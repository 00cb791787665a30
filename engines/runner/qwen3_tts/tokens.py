"""Text → what Qwen3-TTS reads, by its checkpoint's tokenizer. Nothing of MLX or transformers."""

from pathlib import Path

from tokenizers import Tokenizer

from engines.models import tokenizer as tokenizers
from engines.runner.tokenization.encoding import TextEncoder
from engines.types.errors import CheckpointUnusable


class TextTokens:
    """Text to ids. What a user writes never becomes a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._encoder = TextEncoder(tokenizer)
        self._start, self._end = self._id("<|im_start|>"), self._id("<|im_end|>")
        self._line = self.plain("\n")
        self.role = (self._start, *self.plain("assistant\n"))
        if len(self.role) != 3:
            raise CheckpointUnusable("The tokenizer isn't that of a Qwen3-TTS model: 'assistant' is no word of it.")

    @classmethod
    def read(cls, folder: Path) -> "TextTokens":
        """From a checkpoint's folder. Raises `CheckpointUnusable`."""
        return cls(tokenizers.read(folder))

    def plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._encoder.ids(text))

    def check(self, text: str, most: int) -> None:
        """Raises `TooManyTokens` for a text that has more than `most` by its length alone."""
        self._encoder.check([text], most)

    def instructions(self, text: str) -> tuple[int, ...]:
        """As a user's turn before the model's own."""
        return (self._start, *self.plain("user\n"), *self.plain(text), self._end, *self._line)

    def _id(self, token: str) -> int:
        id: int | None = self._tokenizer.token_to_id(token)
        if id is None:
            raise CheckpointUnusable(f"The tokenizer isn't that of a Qwen3-TTS model: it has no {token}.")
        return id
