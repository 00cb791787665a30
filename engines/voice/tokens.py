"""A checkpoint's tokenizer, from either form in which Qwen3-TTS is published. Nothing of MLX or transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from engines.errors import CheckpointUnusable

# How Qwen's tokenizers cut text before merging; of the same meaning in a `tokenizer.json`.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TextTokens:
    """Text to ids. What a user writes never becomes a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._start, self._end = self._id("<|im_start|>"), self._id("<|im_end|>")
        self._line = self.plain("\n")
        self.role = (self._start, *self.plain("assistant\n"))
        if len(self.role) != 3:
            raise CheckpointUnusable("The tokenizer isn't that of a Qwen3-TTS model: 'assistant' is no word of it.")

    @classmethod
    def read(cls, folder: Path) -> "TextTokens":
        """From `tokenizer.json`, else from `vocab.json` and `merges.txt`. Raises `CheckpointUnusable`."""
        whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
        if whole.is_file():
            return cls(Tokenizer.from_file(str(whole)))
        if not (vocabulary.is_file() and merges.is_file()):
            raise CheckpointUnusable(f"{folder} has no tokenizer.json, and no vocab.json and merges.txt either.")
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
        tokenizer.normalizer = normalizers.NFC()
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_WORDS), "isolated"), byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        for token in _added(folder):
            tokenizer.add_tokens([token])
        return cls(tokenizer)

    def plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def instructions(self, text: str) -> tuple[int, ...]:
        """As a user's turn before the model's own."""
        return (self._start, *self.plain("user\n"), *self.plain(text), self._end, *self._line)

    def _id(self, token: str) -> int:
        id: int | None = self._tokenizer.token_to_id(token)
        if id is None:
            raise CheckpointUnusable(f"The tokenizer isn't that of a Qwen3-TTS model: it has no {token}.")
        return id


def _added(folder: Path) -> list[AddedToken]:
    """The control tokens, which a vocabulary without `tokenizer.json` has in its configuration, in order of their ids.

    They follow the vocabulary without a gap: so adding them gives each the id that it must have.
    """
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    listed: Mapping[str, Mapping[str, Any]] = config.get("added_tokens_decoder", {})
    return [
        AddedToken(entry["content"], special=bool(entry.get("special")), normalized=False)
        for _, entry in sorted(listed.items(), key=lambda item: int(item[0]))
    ]
