"""Tokens → bytes → text that never holds half a character. Pure, once the table is read; nothing of MLX."""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from engines import tokenizer
from engines.errors import CheckpointUnusable

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class TokenTable:
    """The bytes of every token id; ids without a token (padding of the vocabulary, holes) are not valid."""

    def __init__(self, table: list[bytes | None]) -> None:
        self._table = table

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return len(self._table)

    @property
    def valid(self) -> list[bool]:
        return [piece is not None for piece in self._table]

    def bytes_of(self, id: int) -> bytes:
        return (self._table[id] if id < len(self._table) else None) or b""

    @classmethod
    def read(cls, folder: Path, *, control: bool = True) -> "TokenTable":
        """Raises `CheckpointUnusable` for a kind of tokenizer that we can't turn back to text. `control`: as below."""
        return cls.from_tokenizer_json(json.loads(tokenizer.source(folder)), control=control)

    @classmethod
    def from_tokenizer_json(cls, data: Mapping[str, object], *, control: bool = True) -> "TokenTable":
        """`control` False: control tokens have no text."""
        model, decoder = data.get("model"), data.get("decoder")
        if not isinstance(model, Mapping) or not isinstance(model.get("vocab"), Mapping):
            raise CheckpointUnusable("The tokenizer's vocabulary is of a kind that we can't run.")
        to_bytes = _piece_reader(decoder if isinstance(decoder, Mapping) else {})
        pieces: dict[int, bytes] = {id: to_bytes(piece) for piece, id in model["vocab"].items()}
        added = data.get("added_tokens")
        for token in added if isinstance(added, list) else []:
            pieces[token["id"]] = token["content"].encode() if control or not token["special"] else b""
        table: list[bytes | None] = [None] * (max(pieces) + 1)
        for id, piece in pieces.items():
            table[id] = piece
        return cls(table)


class Detokenizer:
    """One sequence's ids → text, incrementally. What isn't UTF-8 becomes U+FFFD; nothing is stripped."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id: int) -> str:
        return self._utf8.decode(self._table.bytes_of(id))

    def flush(self) -> str:
        """What was held back; an unfinished character becomes U+FFFD."""
        return self._utf8.decode(b"", final=True)


class _ByteLevel:
    """GPT-2's alphabet: each byte has a printable character; those that have none are moved up from U+0100."""

    def __init__(self) -> None:
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        moved = [byte for byte in range(256) if byte not in printable]
        self._byte_of = {chr(byte): byte for byte in printable}
        self._byte_of |= {chr(256 + place): byte for place, byte in enumerate(moved)}

    def __call__(self, piece: str) -> bytes:
        if not all(character in self._byte_of for character in piece):
            return piece.encode()  # a control token that stands in the vocabulary as it is written
        return bytes(self._byte_of[character] for character in piece)


def _sentencepiece(piece: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()


def _piece_reader(decoder: Mapping[str, object]) -> Callable[[str], bytes]:
    kinds = list(_kinds(decoder))
    if "ByteLevel" in kinds:
        return _ByteLevel()
    if kinds and set(kinds) <= {"Replace", "ByteFallback", "Fuse"}:
        return _sentencepiece
    raise CheckpointUnusable(f"The tokenizer's decoder ({', '.join(kinds) or 'none'}) is of a kind that we can't run.")


def _kinds(decoder: Mapping[str, object]) -> Iterator[str]:
    inner = decoder.get("decoders")
    if isinstance(inner, list):
        for part in inner:
            yield from _kinds(part)
    elif "type" in decoder:
        yield str(decoder["type"])
