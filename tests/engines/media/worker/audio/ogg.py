"""Pages of Ogg, taken apart and changed."""

from engines.media.worker.audio.holes import ogg_checksum


def pages(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        entries = content[at + 26]
        size = 27 + entries + sum(content[at + 27 : at + 27 + entries])
        found.append(content[at : at + size])
        at += size
    return found


def granule(page: bytes) -> int:
    return int.from_bytes(page[6:14], "little", signed=True)


def changed(page: bytes, granule: int | None = None, flags: int | None = None, serial: int | None = None) -> bytes:
    """With its checksum made right again."""
    edited = bytearray(page)
    if granule is not None:
        edited[6:14] = granule.to_bytes(8, "little", signed=True)
    if flags is not None:
        edited[5] = flags
    if serial is not None:
        edited[14:18] = serial.to_bytes(4, "little")
    edited[22:26] = bytes(4)
    edited[22:26] = ogg_checksum(bytes(edited)).to_bytes(4, "little")
    return bytes(edited)
