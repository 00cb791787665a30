"""Tokens → bytes → text that never holds half a character. Pure, once the table is read; nothing of MLX."""

import codecs
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engines.models import tokenizer
from engines.runner.tokenization.decoders import Decoder, TextStream
from engines.types.errors import CheckpointUnusable

Data = Mapping[str, Any]  # of tokenizer.json


class TokenTable:
    """Every token id: its bytes, and its text among others. Ids without a token (padding, holes) are not valid.

    `tokens` are what `decoder` makes text of; without it, bytes are UTF-8, one after the other.
    """

    def __init__(
        self, table: list[bytes | None], tokens: Mapping[int, str] | None = None, decoder: Decoder | None = None
    ) -> None:
        self._table = table
        self._tokens = tokens or {}
        self._decoder = decoder

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return len(self._table)

    @property
    def valid(self) -> list[bool]:
        return [piece is not None for piece in self._table]

    def bytes_of(self, id: int) -> bytes:
        return (self._table[id] if id < len(self._table) else None) or b""

    def token(self, id: int) -> str | None:
        """As the vocabulary has it; None for what has no text."""
        return self._tokens.get(id)

    def stream(self, continues: bool) -> TextStream | None:
        """For one sequence; None where bytes are all there is to a text."""
        return self._decoder.begin(continues) if self._decoder is not None else None

    @classmethod
    def read(cls, folder: Path, *, shown: Collection[str] | None = None) -> "TokenTable":
        """Raises `CheckpointUnusable` for a tokenizer that can't be turned back to text. `shown`: as below."""
        return cls.from_tokenizer_json(_read(folder), shown=shown)

    @classmethod
    def from_tokenizer_json(cls, data: Data, *, shown: Collection[str] | None = None) -> "TokenTable":
        """Of the added tokens, special or not, those in `shown` have text; None: all have."""
        tokens, decoder = _vocabulary(data), _decoder(data)
        silent: set[int] = set()
        for token in data.get("added_tokens") or ():
            tokens[token["id"]] = token["content"]
            if shown is not None and token["content"] not in shown:
                silent.add(token["id"])
        table: list[bytes | None] = [None] * (max(tokens, default=-1) + 1)
        for id, text in tokens.items():
            table[id] = b"" if id in silent else decoder.bytes_of(text)
        if decoder.is_byte_level:
            return cls(table)
        return cls(table, {id: text for id, text in tokens.items() if id not in silent}, decoder)


def check(folder: Path) -> None:
    """Raises `CheckpointUnusable` where `TokenTable.read` would, for less work."""
    data = _read(folder)
    _vocabulary(data)
    _decoder(data)


class Detokenizer:
    """One sequence's ids → text, incrementally: together as the tokenizer decodes them all at once.

    What isn't UTF-8 becomes U+FFFD. `continues`: a text stands before, so that no blank at the beginning is dropped.
    """

    def __init__(self, table: TokenTable, continues: bool = False) -> None:
        self._table = table
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stream = table.stream(continues)

    def feed(self, id: int) -> str:
        if self._stream is None:
            return self._utf8.decode(self._table.bytes_of(id))
        token = self._table.token(id)
        return self._stream.feed(token) if token is not None else ""

    def flush(self) -> str:
        """What was held back; an unfinished character becomes U+FFFD."""
        return self._utf8.decode(b"", final=True) if self._stream is None else self._stream.flush()


def _read(folder: Path) -> Data:
    try:
        data = msgspec.json.decode(tokenizer.source(folder))
    except (msgspec.DecodeError, RecursionError) as error:
        raise CheckpointUnusable(
            f"The model's tokenizer.json can't be read: {error}. Fetch the model again."
        ) from error
    return data if isinstance(data, dict) else {}


def _vocabulary(data: Data) -> dict[int, str]:
    """Id → token, added ones apart. A unigram model lists its tokens in the order of their ids."""
    model = data.get("model")
    match model.get("vocab") if isinstance(model, Mapping) else None:
        case dict(vocabulary):
            return {id: token for token, id in vocabulary.items()}
        case list(vocabulary) if all(isinstance(pair, list) and pair for pair in vocabulary):
            return {id: pair[0] for id, pair in enumerate(vocabulary)}
    raise CheckpointUnusable("The tokenizer's vocabulary is of a kind that we can't run.")


def _decoder(data: Data) -> Decoder:
    decoder = data.get("decoder")
    return Decoder(decoder if isinstance(decoder, Mapping) else None)
