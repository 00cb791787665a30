"""`python -m training.voice.codebooks OUT`: frames as codes, by residual k-means over what is said in 80 ms.

OUT holds what `training.voice.units` wrote. Beside it go vectors.npy (groups, codes, width) and codes.npy (frames,
groups) of all units.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from demo.voice_checkpoints import TRAINED, codec_config
from training.voice import units
from training.voice.units import Units

Array = npt.NDArray[np.float64]

QUIETEST = -9.0  # what is below is as quiet
VOICING = 3.0  # how much it counts beside a band's log energy
ROUNDS = 25


class Codebooks(NamedTuple):
    """`vectors` (groups, codes, width) sum up to a frame's features; `codes` (frames, groups) of all units."""

    vectors: Array
    codes: npt.NDArray[np.int64]


def features(known: Units, width: int) -> Array:
    """(frames, width): the main directions of what sets frames apart, scaled alike."""
    energies = known.energies.astype(np.float64).copy()
    energies[..., :-1] = np.maximum(energies[..., :-1], QUIETEST)
    energies[..., -1] *= VOICING
    flat = energies.reshape(len(energies), -1)
    pitches = np.zeros(len(flat))
    for number, own in enumerate(known.places.values()):
        for start, count in own.values():
            pitches[start : start + count] = number
    flat = np.concatenate([flat, 10.0 * VOICING * pitches[:, None]], axis=1)
    flat = flat - flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    found = flat @ directions[:width].T
    scaled: Array = found / found.std()
    return scaled


def learn(known: Units, groups: int, codes: int, width: int) -> Codebooks:
    """The first code is never 0: where it is, the library takes a frame for padding."""
    rest = features(known, width)
    vectors, chosen = np.zeros((groups, codes, width)), np.zeros((len(rest), groups), np.int64)
    for group in range(groups):
        first = 1 if group == 0 else 0
        draw = np.random.default_rng(group)
        centres, labels = _clustered(rest, codes - first, draw)
        vectors[group, first:], chosen[:, group] = centres, labels + first
        rest = rest - centres[labels]
    return Codebooks(vectors, chosen)


def _clustered(points: Array, count: int, draw: np.random.Generator) -> tuple[Array, npt.NDArray[np.int64]]:
    """Centres and whose each point is; begun with points that are far apart."""
    centres = points[[int(draw.integers(len(points)))]]
    nearest = ((points - centres) ** 2).sum(axis=1)
    while len(centres) < count:
        total = nearest.sum()
        likely = nearest / total if total > 0 else None
        new = points[draw.choice(len(points), p=likely)]
        centres = np.concatenate([centres, new[None]])
        nearest = np.minimum(nearest, ((points - new) ** 2).sum(axis=1))
    labels = _labels(points, centres)
    for _ in range(ROUNDS):
        for index in range(count):
            own = points[labels == index]
            if len(own):
                centres[index] = own.mean(axis=0)
        labels = _labels(points, centres)
    return centres, labels


def _labels(points: Array, centres: Array) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)
    return found


def write(books: Codebooks, out: Path) -> None:
    np.save(out / "vectors.npy", books.vectors.astype(np.float32))
    np.save(out / "codes.npy", books.codes)


def read(out: Path) -> Codebooks:
    """What `write` wrote there."""
    return Codebooks(np.load(out / "vectors.npy"), np.load(out / "codes.npy"))


def lost(known: Units, books: Codebooks) -> float:
    """Which share of what sets frames apart the codes don't hold."""
    found = features(known, books.vectors.shape[2])
    told = sum(vectors[own] for vectors, own in zip(books.vectors, books.codes.T, strict=True))
    return float(((found - told) ** 2).sum() / (found**2).sum())


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m training.voice.codebooks OUT\n")
        return 2
    out = Path(arguments[0])
    known = units.read(out)
    width = codec_config("custom_voice", TRAINED)["decoder_config"]["codebook_dim"] // 2
    books = learn(known, TRAINED.groups, TRAINED.codes, width)
    write(books, out)
    sys.stdout.write(f"{len(books.codes)} frames, {100 * lost(known, books):.2f} % lost\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
