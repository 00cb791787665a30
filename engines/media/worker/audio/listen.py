"""From a recording to the pieces that models hear: of all its channels as one, or of each; of a track with sound."""

from collections.abc import Callable, Iterator

import numpy as np

from engines.ipc.media_protocol import PieceOptions
from engines.media.worker.audio.decode import Recording
from engines.media.worker.audio.split import SampleRange, Samples, Splitter
from engines.types.audio import EAR_RATE
from engines.types.errors import InvalidRequest

TRIED_SECONDS = 600.0  # in which there must be sound, or another track is tried
MOST_SEPARATE = 16  # channels: each holds its longest piece in memory

Found = tuple[SampleRange, int]  # with the number of its channel, counted from 1; 0 is all as one


class PieceSource:
    """The pieces of one recording. They are made as they are taken, and only once."""

    def __init__(self, recording: Recording, options: PieceOptions) -> None:
        self.recording = recording
        self._options = options
        self._splitters: list[Splitter] = []
        self._fed = 0  # samples
        self._first: list[Found] = []  # what was made before anybody took it
        self._rest = self._made()
        self._refusal: InvalidRequest | None = None

    def has_sound(self) -> bool:
        """Listens up to the first sound, and for ten minutes at most."""
        try:
            for parts in self._rest:
                self._first += parts
                if parts or any(splitter.has_sound for splitter in self._splitters):
                    return True
                if self.recording.seconds >= TRIED_SECONDS:
                    return False
        except InvalidRequest as refusal:
            self._refusal = refusal
        return False

    def parts(self) -> Iterator[Found]:
        if self._refusal is not None:
            raise self._refusal
        first, self._first = self._first, []
        yield from first
        for parts in self._rest:
            yield from parts

    def _made(self) -> Iterator[list[Found]]:
        if self._options.selection.channels == "separate":
            yield from self._made_separately()
            return
        splitter = self._new_splitter()
        for block in self.recording.blocks():
            yield [(part, 0) for part in splitter.feed(block)]
        yield [(part, 0) for part in splitter.finish()]

    def _made_separately(self) -> Iterator[list[Found]]:
        for channels in self.recording.channels():
            self._widen(len(channels))
            self._fed += channels.shape[1]
            missing = np.zeros((len(self._splitters) - len(channels), channels.shape[1]), np.float32)
            blocks = zip(self._splitters, [*channels, *missing], strict=True)
            yield [
                (part, number) for number, (splitter, block) in enumerate(blocks, 1) for part in splitter.feed(block)
            ]
        last = [(part, number) for number, splitter in enumerate(self._splitters, 1) for part in splitter.finish()]
        yield sorted(last, key=lambda found: found[0].start)

    def _new_splitter(self) -> Splitter:
        self._splitters.append(Splitter(self._options.longest, self._options.least, EAR_RATE))
        return self._splitters[-1]

    def _widen(self, channels: int) -> None:
        """A channel that comes later was silent so far."""
        if channels > MOST_SEPARATE:
            there = f"the recording has {channels}. Give the number of one, or mix."
            raise InvalidRequest(f"At most {MOST_SEPARATE} channels can be separate; {there}", param="channels")
        while len(self._splitters) < channels:
            splitter = self._new_splitter()
            for at in range(0, self._fed, EAR_RATE):
                splitter.feed(np.zeros(min(EAR_RATE, self._fed - at), np.float32))


def with_sound(listener: Callable[[int | None], PieceSource], track: int | None) -> PieceSource:
    """The first track with sound in its first ten minutes, of those that may be listened to, else the first of all.

    Nothing of what is listened to is decoded twice: the first track's listener goes on where it was left.
    """
    first = listener(track)
    if not first.recording.others or first.has_sound():
        return first
    others = (listener(number) for number in first.recording.others)
    return next((other for other in others if other.has_sound()), first)


def has_sound(samples: Samples, rate: int) -> bool:
    """Whether there is sound in a whole clip."""
    splitter = Splitter(30.0, 0.5, rate)
    return bool(splitter.feed(samples) + splitter.finish())
