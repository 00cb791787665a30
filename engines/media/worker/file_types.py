"""What a file is that can't be read as a recording, in words for whoever sent it. Pure."""

from collections.abc import Callable

Peek = Callable[[int, int], bytes]

HEAD = 512
TEXT_SAMPLE = 4096

# Beginnings of files that are no recordings; the first that fits counts.
OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"II*\0", "a picture (TIFF)"),
    (b"MM\0*", "a picture (TIFF)"),
    (b"BM", "a picture (BMP)"),
    (b"8BPS", "a picture (Photoshop)"),
    (b"\0\0\1\0", "a picture (icon)"),
    (b"PK\x03\x04", "a zip archive, or an Office document"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7z)"),
    (b"Rar!\x1a\x07", "an archive (RAR)"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"BZh", "compressed (bzip2)"),
    (b"\xfd7zXZ\0", "compressed (xz)"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"{\\rtf", "a text (RTF)"),
    (b"SQLite format 3\0", "a database (SQLite)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"MThd", "notes (MIDI) and no sound"),
    (b"#!SILK", "a voice message in SILK, which can't be read here"),
    (b"\x02#!SILK", "a voice message in SILK (WeChat, QQ), which can't be read here"),
    (b"#EXTM3U", "a playlist: send the recording that it names"),
    (b"[playlist]", "a playlist: send the recording that it names"),
    (b"ffconcat", "a playlist: send the recordings that it names"),
    (b"version https://git-lfs", "a pointer to a file in Git LFS, and not that file"),
    (b"caff", "like a CAF file"),
    (b"FORM", "like an AIFF file"),
    (b"fLaC", "like a FLAC file"),
    (b"OggS", "like an Ogg file"),
    (b"ID3", "like an MP3 file"),
    (b"#!AMR", "like an AMR file"),
    (b"\x1a\x45\xdf\xa3", "like a WebM or Matroska file"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "like a WMA or WMV file"),
    (b"FLV", "like an FLV file"),
    (b".RMF", "like a RealMedia file"),
)
RIFF = {b"WEBP": "a picture (WebP)", b"WAVE": "like a WAV file", b"AVI ": "like an AVI file"}
PICTURES = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")


def described(peek: Peek, size: int) -> str:
    """What its bytes say that it is, as the rest of "The file is …"."""
    head = peek(0, HEAD)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] in RIFF:
        return _named(RIFF[head[8:12]])
    if head[4:8] == b"ftyp":
        return _boxes(peek, head, size)
    for beginning, name in OTHERS:
        if head.startswith(beginning):
            return _named(name)
    return _unnamed(peek, head)


def _named(name: str) -> str:
    return f"{name.removeprefix('like ')}, but damaged or not complete" if name.startswith("like ") else name


def _boxes(peek: Peek, head: bytes, size: int) -> str:
    if head[8:12] in PICTURES:
        return "a picture (HEIC or AVIF)"
    at = 0
    for _ in range(10_000):
        header = peek(at, 16)
        if header[4:8] in (b"moov", b"moof"):
            return "an MP4 file, but damaged or without sound"
        length = int.from_bytes(header[:4], "big")
        length = int.from_bytes(header[8:16], "big") if length == 1 else length
        at += length
        if length < 8 or at >= size:
            break
    return "an MP4 file without its index, which is written last: it is damaged or not complete"


def _unnamed(peek: Peek, head: bytes) -> str:
    sample = peek(0, TEXT_SAMPLE)
    if not sample.strip(b"\0"):
        return "nothing but zero bytes at its beginning"
    text = _text(sample)
    if text is None:
        return f"of no kind that is known here, or damaged: its first bytes are {head[:8].hex(' ')}"
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "a web page"
    if start.startswith("<"):
        return "a text (XML)"
    return "a text (JSON)" if start.startswith(("{", "[")) else "a text"


def _text(sample: bytes) -> str | None:
    """A sample of a file as text, which may end within a character; None if it is none."""
    encoding = "utf-16" if sample[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    for end in range(len(sample), max(0, len(sample) - 4), -1):
        try:
            text = sample[:end].decode(encoding)
        except UnicodeDecodeError:
            continue
        return text if all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text) else None
    return None
