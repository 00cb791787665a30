"""Whether a file ends before its own structure says it does. Pure: it is asked for bytes, and nothing is decoded."""

from collections.abc import Callable

Peek = Callable[[int, int], bytes]  # offset, size → bytes, fewer at the end of the file

UNKNOWN_BELOW = 0x7FFFF000  # writers of streams put the largest number there is, signed or not, less a header
BOX_HEADER = 16
MOST_BOXES = 1_000_000
TS_PACKET, M2TS_PACKET = 188, 192
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_HEAD = 1 << 16
OGG_PAGE = 27 + 255 + 255 * 255


def is_cut(format: str, peek: Peek, size: int) -> bool:
    """`format` is the demuxer's name; False also for formats that don't tell."""
    match format.split(",")[0]:
        case "wav":
            return _riff(peek, size, "little")
        case "aiff":
            return _riff(peek, size, "big")
        case "mov":
            return _boxes(peek, size)
        case "matroska":
            return _segment(peek, size)
        case "ogg":
            return _last_page(peek, size)
        case "avi":
            return _avi(peek, size)
        case "asf":
            return _asf(peek, size)
        case "mpegts":
            return size % TS_PACKET != 0 and size % M2TS_PACKET != 0
        case _:
            return False


def _riff(peek: Peek, size: int, order: str) -> bool:
    """Chunks of RIFF or FORM: name, four bytes of length, content, a byte if that is odd."""
    at, wide = 12, 0
    for _ in range(MOST_BOXES):
        header = peek(at, 8)
        if len(header) < 8:
            return False
        name, length = header[:4], int.from_bytes(header[4:], "little" if order == "little" else "big")
        if name == b"ds64":
            wide = int.from_bytes(peek(at + 16, 8), "little")
        if name in (b"data", b"SSND"):
            if length == 0xFFFFFFFF and wide:
                length = wide
            elif length == 0 or length >= UNKNOWN_BELOW:
                return False
            return at + 8 + length > size
        at += 8 + length + length % 2
    return False


def _avi(peek: Peek, size: int) -> bool:
    """The outermost chunk says how long it is; there may be more of them behind it."""
    length = int.from_bytes(peek(4, 4), "little")
    return 0 < length < UNKNOWN_BELOW and 8 + length > size


def _asf(peek: Peek, size: int) -> bool:
    """An object of the header says how long the file is, unless it was broadcast."""
    head = peek(0, ASF_HEAD)
    at = head.find(ASF_PROPERTIES)
    return at >= 0 and int.from_bytes(head[at + 40 : at + 48], "little") > size


def _boxes(peek: Peek, size: int) -> bool:
    """Boxes of MP4: four bytes of length with the header, name; 1: eight more bytes of length, 0: to the end."""
    at = 0
    for _ in range(MOST_BOXES):
        header = peek(at, BOX_HEADER)
        if len(header) < 8:
            return 0 < len(header)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:
            return False
        if length < 8 or not header[4:8].isascii():
            return False  # what follows isn't a box: something was written behind the recording
        at += length
        if at > size:
            return True
    return False


def _segment(peek: Peek, size: int) -> bool:
    """EBML: the header, then the segment with its size, which is all ones where it isn't known."""
    at = 0
    for _ in range(2):
        identifier, at = _number(peek, at, keep_marker=True)
        length, at = _number(peek, at, keep_marker=False)
        if length is None or identifier is None:
            return False
        at += length
    return at > size


def _number(peek: Peek, at: int, keep_marker: bool) -> tuple[int | None, int]:
    """A number whose first bits say how many bytes it has, None if it is unknown; and where the next thing begins."""
    data = peek(at, 8)
    width = 9 - data[0].bit_length() if data else 9
    if width > len(data):
        return None, at
    value = int.from_bytes(data[:width], "big")
    if keep_marker:
        return value, at + width
    value &= (1 << 7 * width) - 1
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _last_page(peek: Peek, size: int) -> bool:
    """Pages of Ogg: a header, a table of lengths, content. The last one must be there as a whole."""
    first = max(0, size - 2 * OGG_PAGE)
    tail = peek(first, size - first)
    at = tail.rfind(b"OggS")
    if at < 0:
        return False
    entries = tail[at + 26] if len(tail) > at + 26 else 0
    table = tail[at + 27 : at + 27 + entries]
    return len(tail) < at + 27 + entries + sum(table) or len(tail) <= at + 26


def is_partial(header: bytes, size: int) -> bool:
    """Whether a frame of MP3, of which the first four bytes are given, should be longer than it is."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return False
    version = header[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    steps = (
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if version == 3
        else (*(0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),)
    )
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or rate == 3:
        return False
    per_second = (44_100, 48_000, 32_000)[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    return size < (144_000 if version == 3 else 72_000) * steps[bit_rate] // per_second


def mp3_size(first: bytes) -> int:
    """The size of an MP3's sound, as its first frame says it; 0 if it doesn't. By LAME's and FFmpeg's "Xing" header."""
    at = max(first.find(b"Xing"), first.find(b"Info"))
    if at < 0 or len(first) < at + 16:
        return 0
    flags = int.from_bytes(first[at + 4 : at + 8], "big")
    place = at + 8 + (4 if flags & 1 else 0)
    return int.from_bytes(first[place : place + 4], "big") if flags & 2 else 0
