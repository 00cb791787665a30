"""How the decoders of the `tokenizers` library make text of tokens, one token after the other.

There a decoder turns the whole list of tokens into another list, and at the end all are joined. Here each is a stage
that takes one token and gives what can't change any more; joined, that is what the library makes of all tokens at
once. From `Fuse` or `ByteLevel` on there is one token only, of which the stages behind see pieces.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from os.path import commonprefix
from typing import Any, Protocol

from tokenizers import Tokenizer

from engines.types.errors import CheckpointUnusable

Part = Mapping[str, Any]
Library = Callable[[list[str]], str]

HELD_BYTES = 64  # of a run of byte tokens: one that isn't UTF-8 becomes U+FFFD as a whole, but no stream stands still
MARGIN = 64  # characters that the unknown may still change
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Stage(Protocol):
    """One decoder, at work on one sequence."""

    def feed(self, token: str) -> Iterator[str]:
        """What is certain once this token is known."""
        ...

    def end(self) -> Iterator[str]:
        """What was held back; nothing follows."""
        ...


class Rule(Protocol):
    """One decoder of a tokenizer."""

    def begin(self, continues: bool) -> Stage:
        """`continues`: other tokens stand before the first."""
        ...

    def alone(self, token: str) -> str:
        """What it makes of a token with others around it."""
        ...


class Decoder:
    """All stages of a tokenizer's decoder. Raises `CheckpointUnusable` for a kind that the library doesn't know."""

    def __init__(self, decoder: Part | None) -> None:
        parts = list(_parts(decoder)) if decoder else [{"type": "joined by spaces"}]
        self._rules: list[Rule] = []
        self._is_bytes = any(part["type"] == "ByteFallback" for part in parts)
        fused = False
        for part in parts:
            kind = part["type"]
            self._rules.append(_of_text(part) if fused else _of_tokens(part))
            fused = fused or kind in ("Fuse", "ByteLevel")
        self.is_byte_level = {part["type"] for part in parts} in ({"ByteLevel"}, {"ByteLevel", "Fuse"})

    def begin(self, continues: bool = False) -> "TextStream":
        return TextStream([rule.begin(continues) for rule in self._rules])

    def bytes_of(self, token: str) -> bytes:
        """A token's own part of a text: where it isn't UTF-8 by itself, its bytes."""
        if self._is_bytes and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if self.is_byte_level:
            return byte_level(token)
        for rule in self._rules:
            token = rule.alone(token)
        return token.encode()


class TextStream:
    """One sequence's tokens → text."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def feed(self, token: str) -> str:
        return "".join(self._through(0, iter((token,))))

    def flush(self) -> str:
        """The rest."""
        text = ""
        for place, stage in enumerate(self._stages):
            text += "".join(self._through(place + 1, stage.end()))
        return text

    def _through(self, place: int, tokens: Iterator[str]) -> Iterator[str]:
        for stage in self._stages[place:]:
            tokens = chain.from_iterable(map(stage.feed, tokens))
        return tokens


def _parts(decoder: Part) -> Iterator[Part]:
    inner = decoder.get("decoders")
    if not isinstance(inner, list):
        yield {"type": "", **decoder}
        return
    for part in inner:
        yield from _parts(part)


def _of_tokens(part: Part) -> Rule:
    """The rule of a decoder that sees tokens one by one."""
    match part["type"]:
        case "ByteLevel":
            return _ByteLevel()
        case "ByteFallback":
            return _ByteFallback()
        case "Fuse":
            return _Unchanged()
        case "joined by spaces":
            return _Each(lambda token: token, lambda token: f" {token}")
        case "Replace":
            made = _library(part)
            return _Each(lambda token: made([token]), lambda token: made([token]))
        case "Strip":  # the library's own panics at tokens that are too short
            return _Each(partial(_stripped, part), partial(_stripped, part))
        case "Metaspace" | "WordPiece":
            made = _library(part)
            return _Each(lambda token: made([token]), lambda token: made(["a", token])[1:])
        case "BPEDecoder":
            made = _library(part)
            return _AtTheEnd(lambda token: made([token]), lambda token: made([token, "a"])[:-1])
        case "CTC":
            return _Ctc(_library(part))
    raise CheckpointUnusable(
        f"The tokenizer's decoder {part['type'] or 'without a name'} is of a kind that we can't run."
    )


def _of_text(part: Part) -> Rule:
    """The rule of a decoder that sees one token alone, in pieces."""
    match part:
        case {"type": "Fuse"}:
            return _Unchanged()
        case {"type": "Strip", "content": str(content), "start": int(start), "stop": int(stop)}:
            return _Stripped(content, start, stop)
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)} if pattern:
            return _Replaced(pattern, content)
    return _Growing(_library(part))


def _library(part: Part) -> Library:
    """The library's own decoder."""
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    try:
        decoder = Tokenizer.from_str(json.dumps({"version": "1.0", "decoder": part, "model": model})).decoder
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointUnusable(f"The tokenizer's decoder {part['type']} can't be read: {error}") from error
    return lambda tokens: str(decoder.decode(tokens))


class _Unchanged:
    """`Fuse`: what it joins is joined anyway."""

    def begin(self, continues: bool) -> Stage:
        return self

    def alone(self, token: str) -> str:
        return token

    def feed(self, token: str) -> Iterator[str]:
        yield token

    def end(self) -> Iterator[str]:
        return iter(())


class _Each:
    """A token is what it is by itself, or what it is as the first."""

    def __init__(self, first: Callable[[str], str], later: Callable[[str], str]) -> None:
        self._first = first
        self.alone = later

    def begin(self, continues: bool) -> Stage:
        return _EachStage(self.alone if continues else self._first, self.alone)


class _EachStage:
    def __init__(self, now: Callable[[str], str], later: Callable[[str], str]) -> None:
        self._now, self._later = now, later

    def feed(self, token: str) -> Iterator[str]:
        made, self._now = self._now, self._later
        yield made(token)

    def end(self) -> Iterator[str]:
        return iter(())


class _AtTheEnd:
    """A token is what it is by itself, or what it is as the last."""

    def __init__(self, last: Callable[[str], str], before: Callable[[str], str]) -> None:
        self._last = last
        self.alone = before

    def begin(self, continues: bool) -> Stage:
        return _AtTheEndStage(self._last, self.alone)


class _AtTheEndStage:
    def __init__(self, last: Callable[[str], str], before: Callable[[str], str]) -> None:
        self._last, self._before = last, before
        self._held: str | None = None

    def feed(self, token: str) -> Iterator[str]:
        held, self._held = self._held, token
        if held is not None:
            yield self._before(held)

    def end(self) -> Iterator[str]:
        if self._held is not None:
            yield self._last(self._held)


class _Ctc:
    """Repeated tokens are one, and some are nothing."""

    def __init__(self, made: Library) -> None:
        self._made = made

    def begin(self, continues: bool) -> Stage:
        return _CtcStage(self.alone)

    def alone(self, token: str) -> str:
        return self._made([token])


class _CtcStage:
    def __init__(self, made: Callable[[str], str]) -> None:
        self._made = made
        self._before: str | None = None

    def feed(self, token: str) -> Iterator[str]:
        before, self._before = self._before, token
        if token != before and (made := self._made(token)):
            yield made

    def end(self) -> Iterator[str]:
        return iter(())


class _ByteFallback:
    """Runs of tokens like `<0xE4>` are UTF-8; a run that isn't becomes as many U+FFFD as it has bytes."""

    def begin(self, continues: bool) -> Stage:
        return _ByteFallbackStage()

    def alone(self, token: str) -> str:
        return token


class _ByteFallbackStage:
    def __init__(self) -> None:
        self._run = bytearray()  # what of it isn't given yet
        self._broken = False

    def feed(self, token: str) -> Iterator[str]:
        byte = _BYTE_TOKEN.fullmatch(token)
        if byte is None:
            yield from self.end()
            yield token
            return
        self._run.append(int(byte[1], 16))
        text, used = _decoded(self._run)
        self._broken = self._broken or text is None
        if self._broken:
            yield from self._replaced()
        elif text and len(self._run) > HELD_BYTES:
            del self._run[:used]
            yield text

    def end(self) -> Iterator[str]:
        text, used = _decoded(self._run)
        if text is None or used < len(self._run):
            yield from self._replaced()
        elif text:
            yield text
        self._run.clear()
        self._broken = False

    def _replaced(self) -> Iterator[str]:
        yield from "\ufffd" * len(self._run)
        self._run.clear()


def _decoded(data: bytearray) -> tuple[str | None, int]:
    """The text of what may be the beginning of UTF-8, and how many bytes that takes; None for what can't be."""
    try:
        return codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return None, 0


_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_MOVED = [byte for byte in range(256) if byte not in _PRINTABLE]
# GPT-2's alphabet: each byte has a printable character; those that have none are moved up from U+0100.
BYTE_ALPHABET = [*map(chr, _PRINTABLE), *(chr(256 + place) for place in range(len(_MOVED)))]
_BYTE_OF = dict(zip(BYTE_ALPHABET, (*_PRINTABLE, *_MOVED), strict=True))


def byte_level(token: str) -> bytes:
    """The bytes of a token of byte-level BPE; one outside its alphabet stands in the vocabulary as it is written."""
    if not all(character in _BYTE_OF for character in token):
        return token.encode()
    return bytes(_BYTE_OF[character] for character in token)


class _ByteLevel:
    def begin(self, continues: bool) -> Stage:
        return _ByteLevelStage()

    def alone(self, token: str) -> str:
        return byte_level(token).decode(errors="replace")


class _ByteLevelStage:
    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: str) -> Iterator[str]:
        if text := self._utf8.decode(byte_level(token)):
            yield text

    def end(self) -> Iterator[str]:
        if text := self._utf8.decode(b"", final=True):
            yield text


def _stripped(part: Part, token: str) -> str:
    stage = _StrippedStage(part["content"], part["start"], part["stop"])
    return "".join(stage.feed(token))


class _Stripped:
    """At most so many characters off both ends of a text."""

    def __init__(self, content: str, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop

    def begin(self, continues: bool) -> Stage:
        return _StrippedStage(self._content, 0 if continues else self._start, self._stop)

    def alone(self, token: str) -> str:
        return token


class _StrippedStage:
    def __init__(self, content: str, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop
        self._held = ""

    def feed(self, token: str) -> Iterator[str]:
        while self._start and token:
            if token[0] != self._content:
                self._start = 0
                break
            token, self._start = token[1:], self._start - 1
        text = self._held + token
        kept = text.rstrip(self._content)
        most = max(len(kept), len(text) - self._stop)
        self._held = text[most:]
        if most:
            yield text[:most]

    def end(self) -> Iterator[str]:
        return iter(())


class _Replaced:
    def __init__(self, pattern: str, content: str) -> None:
        self._pattern, self._content = pattern, content

    def begin(self, continues: bool) -> Stage:
        return _ReplacedStage(self._pattern, self._content)

    def alone(self, token: str) -> str:
        return token.replace(self._pattern, self._content)


class _ReplacedStage:
    """Holds back what may be the beginning of the pattern."""

    def __init__(self, pattern: str, content: str) -> None:
        self._pattern, self._content = pattern, content
        self._held = ""

    def feed(self, token: str) -> Iterator[str]:
        *before, rest = (self._held + token).split(self._pattern)
        sizes = range(min(len(self._pattern) - 1, len(rest)), 0, -1)
        keep = next((size for size in sizes if self._pattern.startswith(rest[-size:])), 0)
        self._held = rest[len(rest) - keep :]
        yield "".join(f"{text}{self._content}" for text in before) + rest[: len(rest) - keep]

    def end(self) -> Iterator[str]:
        yield self._held


class _Growing:
    """No rule is known: the library decodes the whole again with each token, and what stays the same is given."""

    def __init__(self, made: Library) -> None:
        self._made = made

    def begin(self, continues: bool) -> Stage:
        return _GrowingStage(self._made)

    def alone(self, token: str) -> str:
        return self._made([token])


class _GrowingStage:
    def __init__(self, made: Library) -> None:
        self._made = made
        self._whole = ""
        self._text = ""
        self._given = 0

    def feed(self, token: str) -> Iterator[str]:
        self._whole += token
        before, self._text = self._text, self._made([self._whole])
        stable = len(commonprefix((before, self._text))) - MARGIN
        if stable > self._given:
            given, self._given = self._given, stable
            yield self._text[given:stable]

    def end(self) -> Iterator[str]:
        yield self._text[self._given :]
