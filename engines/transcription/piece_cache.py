"""What was heard in pieces of recordings, kept for a while: who asks again, since a client or proxy gave up too early,
has it at once, and goes on where the first try was cut. Pure but for its clock; nothing of it is ever on a disk.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from engines.types.audio import PieceDone, PieceRequest

MOST_BYTES = 32 << 20
ENTRY_BYTES = 512  # what an entry takes beside its answer, about


class _Entry(msgspec.Struct, frozen=True):
    """An answer in MessagePack: so it is known how many bytes there are."""

    data: bytes
    until: float

    @property
    def size(self) -> int:
        return len(self.data) + ENTRY_BYTES


class PieceCache:
    """Answers by key, or how often one was given up, each for `seconds` from when it was put.

    Of more than `most_bytes` the ones unused longest go.
    `seconds` 0: nothing is kept.
    """

    def __init__(self, seconds: float, clock: Callable[[], float], most_bytes: int = MOST_BYTES) -> None:
        self._seconds = seconds
        self._clock = clock
        self._most_bytes = most_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def is_off(self) -> bool:
        return self._seconds <= 0

    def get(self, key: bytes) -> PieceDone | int | None:
        entry = self._entries.get(key)
        if entry is None or entry.until <= self._clock():
            return None
        self._entries.move_to_end(key)
        return msgspec.msgpack.decode(entry.data, type=PieceDone | int)

    def put(self, key: bytes, done: PieceDone | int) -> None:
        if self.is_off:
            return
        self._drop(key)
        entry = _Entry(msgspec.msgpack.encode(done), self._clock() + self._seconds)
        self._entries[key] = entry
        self._size += entry.size
        while self._size > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def expire(self) -> float | None:
        """Forgets what is too old. In how many seconds to call this again; None: when there is something new."""
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if entry.until <= now]:
            self._drop(key)
        return min((entry.until for entry in self._entries.values()), default=now) - now if self._entries else None

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0

    def _drop(self, key: bytes) -> None:
        if entry := self._entries.pop(key, None):
            self._size -= entry.size


class KnownPieces:
    """The part of a cache that belongs to one who asks, and to one model in one state: `scope` says whose."""

    def __init__(self, cache: PieceCache, scope: tuple[str, ...]) -> None:
        self._cache = cache
        self._scope = scope

    def find(self, request: PieceRequest) -> PieceDone | None:
        """What was answered to the same before."""
        known = self._cache.get(self._key(request)) if self._keeps(request) else None
        return known if isinstance(known, PieceDone) else None

    def keep(self, request: PieceRequest, done: PieceDone) -> None:
        if self._keeps(request):
            self._cache.put(self._key(request), done)

    def given_up(self, request: PieceRequest) -> int:
        """How often nobody waited for the answer."""
        known = self._cache.get(self._key(request)) if self._keeps(request) else None
        return known if isinstance(known, int) else 0

    def give_up(self, request: PieceRequest) -> None:
        if self._keeps(request) and self.find(request) is None:
            self._cache.put(self._key(request), self.given_up(request) + 1)

    def _keeps(self, request: PieceRequest) -> bool:
        """What is drawn at random is another text each time, and who asks for it twice wants two."""
        return request.temperature == 0 and not self._cache.is_off

    def _key(self, request: PieceRequest) -> bytes:
        """Of all that the answer depends on: the sound, the options, and whose it is; not the name it is asked by."""
        options = msgspec.structs.replace(request, model="", samples=b"", trace="", priority="background")
        digest = hashlib.blake2b(msgspec.json.encode((self._scope, options)), digest_size=32)
        digest.update(request.samples)
        return digest.digest()
