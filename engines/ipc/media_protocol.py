"""What the server and the media process say to each other, and what `client.Media` gives.

Frames are those of `engines.ipc.runner_protocol`.

Every job ends with exactly one of `Ended`, `Failed` and `Dropped`, unless the process ends first. Bytes travel as
`Data` in front of the report that says what they are: `PieceMade` (a piece's samples), `Turn` (of an encoder, what came
of a `Feed`), `Ended` (a clip's samples, the rest of a file).
"""

import msgspec

from engines.ipc.job import Cancel, Credit, Failed, Ping
from engines.types.audio import Channels, SoundFormat

MAX_DATA = 1 << 20  # bytes in one frame, so that what others wait for gets in between


class Selection(msgspec.Struct, frozen=True):
    """What of a file is listened to. Tracks and channels count from 1.

    `track` None takes the one that is marked as default, or the next if there is no sound in its first ten minutes.
    `channels` "separate" gives each channel for itself.
    """

    track: int | None = None
    channels: Channels = "mix"


class PieceOptions(msgspec.Struct, frozen=True):
    """Seconds: the longest piece, the shortest worth making (at most 2, and a quarter of the longest), the longest
    recording that is taken."""

    longest: float = 30.0
    least: float = 0.5
    limit: float = 12 * 3600.0
    selection: Selection = Selection()

    def __post_init__(self) -> None:
        if not (0 <= self.least <= 2 and 1 <= self.longest <= 1200 and self.least <= self.longest / 4):
            raise ValueError(f"pieces of {self.least} to {self.longest} seconds can't be made")


class RecordingPiece(msgspec.Struct, frozen=True):
    """A stretch of a recording in which there is sound: float32 at `EAR_RATE`, and when it is, in seconds.

    So many seconds of the recording are `done`, i.e. decoded; `total` is None when the file doesn't say. `channel` is 0
    unless channels are given separately: their pieces come by when they end.
    """

    start: float
    end: float
    samples: bytes
    done: float
    total: float | None
    channel: int = 0


class DecodeProgress(msgspec.Struct, frozen=True):
    """There is no piece yet, for there is silence, but so much is done."""

    done: float
    total: float | None


class Ending(msgspec.Struct, frozen=True):
    """How long the recording truly was, and which of how many audio tracks of the file it was.

    `cut`: its file ends too early; what was there, was given. `gaps`: where sound is missing within it, in seconds;
    there is silence instead, as far as it is known how long.
    """

    seconds: float
    cut: bool
    gaps: tuple[tuple[float, float], ...] = ()
    track: int = 1
    tracks: int = 1


class Decoded(msgspec.Struct, frozen=True):
    """A whole clip: float32, one channel, at the rate asked for. The rest as in `Ending`."""

    samples: bytes
    seconds: float
    cut: bool
    gaps: tuple[tuple[float, float], ...] = ()
    track: int = 1
    tracks: int = 1


# -- to the process -----------------------------------------------------------------------------------------------


class Split(msgspec.Struct, frozen=True, tag=True):
    """Give the pieces of a file, so many of them before any `Credit`."""

    id: int
    path: str
    options: PieceOptions
    credit: int


class Clip(msgspec.Struct, frozen=True, tag=True):
    """Give the whole of a file that is at most so long, at a rate."""

    id: int
    path: str
    rate: int
    longest: float
    selection: Selection = Selection()


class Encode(msgspec.Struct, frozen=True, tag=True):
    """Make a file of what is fed: `rate_in` and `rate_out` in samples a second, `speed` 2 is twice as fast."""

    id: int
    format: SoundFormat
    rate_in: int
    rate_out: int | None
    speed: float
    whole: bool


class Feed(msgspec.Struct, frozen=True, tag=True):
    """More samples, float32; answered by `Turn`."""

    id: int
    samples: bytes


class Finish(msgspec.Struct, frozen=True, tag=True):
    """No more samples come."""

    id: int


Job = Split | Clip | Encode
Command = Job | Feed | Finish | Credit | Cancel | Ping

# -- from the process ---------------------------------------------------------------------------------------------


class Data(msgspec.Struct, frozen=True, tag=True):
    id: int
    data: bytes


class PieceMade(msgspec.Struct, frozen=True, tag=True):
    """The data so far are a piece that starts so many seconds into the recording."""

    id: int
    start: float
    done: float
    total: float | None
    channel: int = 0


class Turn(msgspec.Struct, frozen=True, tag=True):
    """The data so far are what came of the last `Feed`; the first one says that the encoder is ready."""

    id: int


class JobProgress(msgspec.Struct, frozen=True, tag=True):
    """The job got on, to so many seconds; sent a few times a second at most."""

    id: int
    done: float
    total: float | None


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The job is done; what is said of the recording is as in `Ending`."""

    id: int
    seconds: float
    cut: bool
    gaps: tuple[tuple[float, float], ...] = ()
    track: int = 1
    tracks: int = 1


class Dropped(msgspec.Struct, frozen=True, tag=True):
    """The job was cancelled."""

    id: int


class Pong(msgspec.Struct, frozen=True, tag=True):
    """Of no job: `id` is one that none has."""

    id: int = 0


Report = Data | PieceMade | Turn | JobProgress | Ended | Failed | Dropped | Pong
