"""What `mlx-local chat` is to ask: words of the command line, a text from a pipe, or lines of a terminal."""

import io
import select
import sys
from collections.abc import Iterator, Sequence

from mlx_local_inference.output import tell

PIPE = "-"  # the word that stands for standard input
PATIENCE_SECONDS = 2.0


class NothingAsked(Exception):
    """There is no question; the message says how to put one."""


def questions(words: Sequence[str]) -> Iterator[str]:
    """One, if there are words or standard input is no terminal; else a line of the terminal after the other."""
    clean = [word.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for word in words]
    if PIPE in clean or not _is_terminal():
        yield composed(clean, _piped(waiting_for_words=bool(clean) and PIPE not in clean))
    elif clean:
        yield composed(clean, "")
    else:
        yield from _lines()


def composed(words: Sequence[str], piped: str) -> str:
    """One question: what was piped stands where the word `-` is, or behind the words. Raises `NothingAsked`."""
    at = words.index(PIPE) if PIPE in words else len(words)
    parts = [" ".join(words[:at]), piped.rstrip("\n"), " ".join(words[at + 1 :])]
    if not (asked := "\n\n".join(part for part in parts if part.strip())):
        raise NothingAsked(
            'nothing was asked: give a question, as in mlx-local chat "Why is the sky blue?", or pipe one'
        )
    return asked


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _piped(waiting_for_words: bool) -> str:
    """All of standard input; bytes that aren't UTF-8 become U+FFFD. Who waits for a pipe that is silent is told so."""
    if sys.stdin is None:
        return ""
    try:
        if waiting_for_words and not select.select([sys.stdin], [], [], PATIENCE_SECONDS)[0]:
            tell("[the question goes on with what is piped in, which hasn't ended: < /dev/null for none]\n")
        return sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return ""  # closed, or a folder


def _lines() -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        tell("> ")
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
