"""Random weights with which a model says one thing after another, and then ends. Pure.

Random models repeat themselves, never end, and say something else after a rounding error; and how much they say is what
time they take. So each token of a chain is made to lead to the next: its embedding is its predecessor's, turned. All
other layers compute as much as ever, and add next to nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]

FAINT = 0.02
LEAD = 4.0  # how much stronger the next token is than the one that was said
OPEN = 4.0  # where a gate lets everything through
LINEAR, NARROW = 8.0, 0.5  # where GELU is the identity, and how far about it
SURE = 40.0  # the next token's logit


def scattered(shapes: Shapes, faint: Sequence[str], seed: int = 7) -> dict[str, Array]:
    """Weights by name; those whose names end as `faint` says add next to nothing to what passes by."""
    generator = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        if name.endswith("bias"):
            weights[name] = np.zeros(shape, np.float32)
        elif len(shape) == 1:
            weights[name] = np.ones(shape, np.float32)
        else:
            scale = float(np.prod(shape[1:])) ** -0.5 * (FAINT if name.endswith(tuple(faint)) else 1.0)
            weights[name] = generator.standard_normal(shape, np.float32) * np.float32(scale)
    return weights


def turned(rows: int, width: int, chain: Sequence[int], *, seed: int = 8) -> tuple[Array, Array]:
    """Embeddings [rows, width], and the turn [width, width] that makes each of the chain's into the next one's.

    The last place of an embedding is 1 for the chain's tokens; all others are faint.
    """
    generator = np.random.default_rng(seed)
    turn = np.zeros((width, width))
    turn[:-1, :-1] = np.linalg.qr(generator.standard_normal((width - 1, width - 1)))[0]
    embeddings = generator.standard_normal((rows, width)) * FAINT
    embeddings[:, -1] = 0
    place = generator.standard_normal(width)
    place *= (width - 1) ** 0.5 / np.linalg.norm(place[:-1])
    for token in chain:
        embeddings[token] = place
        embeddings[token, -1] = 1
        place = turn @ place
    return embeddings.astype(np.float32), turn.astype(np.float32)


def gated(turn: Array, inner: int) -> tuple[Array, Array, Array]:
    """A feed-forward layer with a gate (SiLU) that adds the turned input: gate and up [inner, width], down.

    The input is a token's embedding of a root mean square of 1.
    """
    width = len(turn)
    gate, up, down = (np.zeros(shape, np.float32) for shape in ((inner, width), (inner, width), (width, inner)))
    gate[:width, -1] = OPEN
    up[:width] = turn
    np.fill_diagonal(down, LEAD * (1 + np.exp(-OPEN)) / OPEN)
    return gate, up, down


def bent(turn: Array, inner: int) -> tuple[Array, Array, Array, Array]:
    """As `gated`, for a feed-forward layer of two matrices with biases and GELU: weight and bias of each."""
    width = len(turn)
    first, second = np.zeros((inner, width), np.float32), np.zeros((width, inner), np.float32)
    first[:width] = NARROW * turn
    np.fill_diagonal(second, LEAD / NARROW)
    shift = np.full(width, -LEAD / NARROW * LINEAR, np.float32)
    return first, np.full(inner, LINEAR, np.float32), second, shift


def led(rows: int, width: int, chain: Sequence[int], *, seed: int = 9) -> tuple[Array, Array]:
    """Embeddings and a head of its own, both [rows, width], with which each of the chain's tokens leads to the next."""
    generator = np.random.default_rng(seed)
    embeddings = generator.standard_normal((rows, width)).astype(np.float32)
    head = generator.standard_normal((rows, width)).astype(np.float32) * np.float32(FAINT)
    for token, following in zip(chain, chain[1:], strict=False):
        head[following] = embeddings[token] * np.float32(SURE / width)
    return embeddings, head
