"""The files of a corpus: arrays one after another in NAME.npy, what is said in each in NAME.json.

Both are whole as soon as they are seen, for they are written beside and then renamed; the second one comes last. A file
that is there is never written into: others have it mapped into their memory, and it would end them if it shrank.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt


class CorpusUtterance(msgspec.Struct, frozen=True):
    """What is spoken; `size` counts frames of features, or samples of sound. No words: nobody speaks.

    `starts`: the frame in which each word begins, and where the last one ends; only in training.
    """

    language: str
    words: list[str]
    size: int = 0
    starts: list[int] = []


def is_whole(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").exists()


def write(folder: Path, name: str, made: list[tuple[CorpusUtterance, npt.NDArray[Any]]]) -> None:
    """The arrays have `size` rows each."""
    rows = np.concatenate([array for _, array in made])
    content = msgspec.json.encode([utterance for utterance, _ in made])
    _write(folder / f"{name}.npy", lambda file: np.save(file, rows))
    _write(folder / f"{name}.json", lambda file: file.write(content))


def read(folder: Path, name: str) -> Iterator[tuple[CorpusUtterance, Any]]:
    """What was written there, in mapped memory."""
    utterances = msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=list[CorpusUtterance])
    rows, start = np.load(folder / f"{name}.npy", mmap_mode="r"), 0
    for utterance in utterances:
        yield utterance, rows[start : start + utterance.size]
        start += utterance.size


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        fill(file)
    partial.replace(path)
