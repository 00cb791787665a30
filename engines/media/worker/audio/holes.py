"""What is missing or damaged between two places of a file, by its own structure. Pure: it is asked for bytes."""

import zlib

from engines.media.worker.audio.extent import Peek

OGG_HEADER = 27
MOST_PAGES = 100_000
SCANNED = 1 << 20  # bytes
REFLECTED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
ADTS_HEADER = 7


def lost_pages(peek: Peek, before: int, at: int) -> int:
    """How many of a stream's pages are missing between the Ogg pages at two offsets: by their numbers and checksums.

    None are where a writer has paused: its pages have consecutive numbers, however far their times jump.
    """
    first, last = _page(peek, before), _page(peek, at)
    if first is None or last is None or first[0] != last[0]:
        return 0
    serial, number, offset = first[0], first[1], first[2]
    found = 0
    for _ in range(MOST_PAGES):
        if offset >= at:
            break
        page = _page(peek, offset)
        if page is None:
            offset = _next_capture(peek, offset + 1, at)
            continue
        found += page[0] == serial
        offset = page[2]
    return max(0, last[1] - number - 1 - found)


def _page(peek: Peek, at: int) -> tuple[int, int, int] | None:
    """Serial number, number of the page, and where the next one begins; None where no whole page is."""
    header = peek(at, OGG_HEADER + 255)
    if header[:4] != b"OggS" or len(header) < OGG_HEADER:
        return None
    table = header[OGG_HEADER : OGG_HEADER + header[26]]
    size = OGG_HEADER + len(table) + sum(table)
    page = peek(at, size)
    if len(page) < size or ogg_checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
        return None
    return int.from_bytes(page[14:18], "little"), int.from_bytes(page[18:22], "little"), at + size


def _next_capture(peek: Peek, start: int, end: int) -> int:
    """Where the next page may begin; `end` if none does before it."""
    while start < end:
        part = peek(start, min(SCANNED, end - start + 3))
        if (found := part.find(b"OggS")) >= 0:
            return start + found
        start += max(1, len(part) - 3) if part else end
    return end


def ogg_checksum(page: bytes) -> int:
    """CRC-32 with Ogg's polynomial, whose bits run the other way than those of `zlib`, and without its inversions."""
    reflected = zlib.crc32(page.translate(REFLECTED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


def adts_frame(peek: Peek, at: int, size: int) -> int | None:
    """Where the frame of ADTS of a certain size is that should begin at an offset; None if none is near."""
    part = peek(at, ADTS_HEADER)
    if _adts_size(part) == size:
        return at
    part = peek(at, SCANNED)
    offset = -1
    while (offset := part.find(b"\xff", offset + 1)) >= 0:
        if _adts_size(part[offset : offset + ADTS_HEADER]) == size:
            return at + offset
    return None


def _adts_size(header: bytes) -> int:
    """The length of a frame with this header; 0 if it is none."""
    if len(header) < ADTS_HEADER or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    return (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
