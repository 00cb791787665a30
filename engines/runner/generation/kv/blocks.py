"""Which blocks of KV are stored, and which give way: the bookkeeping of the prefix cache. Pure.

A block is `BLOCK` positions of a sequence, known by a chain of hashes: the model, the block's own tokens and content,
and all before them. It has two parts, because they are needed differently: `full` (layers that see everything) by every
sequence that goes on after it, `window` (layers with a sliding window) only by those that go on less than a window
after it.
"""

import hashlib
import struct
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from engines.runner.generation.content import ContentSpan

BLOCK = 8

Part = TypeVar("Part")
Which = Literal["full", "window"]


class Chain:
    """The keys of the whole blocks of one growing sequence.

    `identity` is the model's; `spans` are the positions of the sequence that hold content. Two chains have a key in
    common exactly where the model is the same, and all tokens, digests and offsets in contents up to the block's end.
    """

    def __init__(self, identity: bytes, spans: Sequence[ContentSpan] = ()) -> None:
        self._root = hashlib.blake2b(identity, digest_size=16).digest()
        self._spans = spans
        self.keys: list[bytes] = []

    def grow(self, tokens: Sequence[int], length: int) -> list[bytes]:
        """The keys of all whole blocks in the first `length` of a sequence's tokens, which have only grown."""
        for start in range(len(self.keys) * BLOCK, length - BLOCK + 1, BLOCK):
            own = array("q", tokens[start : start + BLOCK]).tobytes()
            parent = self.keys[-1] if self.keys else self._root
            self.keys.append(hashlib.blake2b(parent + own + self._content(start), digest_size=16).digest())
        return self.keys[: length // BLOCK]

    def _content(self, start: int) -> bytes:
        """What of the block at `start` is content: where in the block, from which offset in the content, and whose."""
        parts = b""
        for span in self._spans:
            first, last = max(span.begin, start), min(span.end, start + BLOCK)
            if first < last:
                place = struct.pack("<4q", first - start, last - start, first - span.begin, len(span.digest))
                parts += place + span.digest
        return parts


class Block(msgspec.Struct, Generic[Part], frozen=True):
    """Both parts; `window` is None where the model has no such layers, or where it has given way."""

    full: Part
    window: Part | None


class BlockStore(Generic[Part]):
    """`reach` is how many blocks back a window layer looks; 0 if there are none.

    Parts are in order of their last use, and the first gives way first. A use of a block is one of all blocks before
    it, which count as used later: so no block ever gives way before those behind it.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach
        self._parts: OrderedDict[tuple[bytes, Which], tuple[Part, int]] = OrderedDict()
        self.bytes = 0

    def __contains__(self, key: bytes) -> bool:
        return (key, "full") in self._parts

    def complete(self, key: bytes) -> bool:
        """Whether there is nothing of this block to add."""
        return key in self and (not self._reach or (key, "window") in self._parts)

    def usable(self, chain: Sequence[bytes]) -> int:
        """How many blocks from the start of a chain are here, with all that a sequence needs to go on behind them."""
        usable = windows = 0
        for count, key in enumerate(chain, start=1):
            if key not in self:
                break
            windows = windows + 1 if (key, "window") in self._parts else 0
            if windows >= min(count, self._reach):
                usable = count
        return usable

    def take(self, chain: Sequence[bytes]) -> list[Block[Part]]:
        """The blocks of a usable chain; window parts that are not needed behind it are left out."""
        self._use(chain)
        near = len(chain) - self._reach
        return [
            Block(self._parts[key, "full"][0], self._window(key) if place >= near else None)
            for place, key in enumerate(chain)
        ]

    def put(self, chain: Sequence[bytes], start: int, blocks: Sequence[Block[Part]], sizes: tuple[int, int]) -> None:
        """Store the blocks of `chain` from number `start` on; `sizes` are the bytes of a full and a window part."""
        if any(key not in self for key in chain[:start]):
            return  # what goes before has given way: nobody could find these
        for key, block in zip(chain[start:], blocks, strict=True):
            self._add((key, "full"), block.full, sizes[0])
            if block.window is not None:
                self._add((key, "window"), block.window, sizes[1])
        self._use(chain)

    def shrink(self, limit: int) -> None:
        """Let parts give way until at most `limit` bytes are held."""
        while self.bytes > limit and self._parts:
            (key, which), (_, size) = self._parts.popitem(last=False)
            self.bytes -= size
            if which == "full" and (window := self._parts.pop((key, "window"), None)):
                self.bytes -= window[1]

    def _add(self, name: tuple[bytes, Which], part: Part, size: int) -> None:
        if name not in self._parts:
            self._parts[name] = part, size
            self.bytes += size

    def _window(self, key: bytes) -> Part | None:
        found = self._parts.get((key, "window"))
        return found[0] if found else None

    def _use(self, chain: Sequence[bytes]) -> None:
        for place in range(len(chain) - 1, -1, -1):
            if len(chain) - place <= self._reach and (chain[place], "window") in self._parts:
                self._parts.move_to_end((chain[place], "window"))
            self._parts.move_to_end((chain[place], "full"))
