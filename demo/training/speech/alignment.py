"""Which word is heard when, if only their order is known: connectionist temporal classification in numpy."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
NEVER = -1e30


def expected(logs: Array, lengths: npt.NDArray[np.int64], labels: list[list[int]]) -> Array:
    """How probable each class is at each place, given all labels of the row in order; class 0 is between them.

    `logs` (rows, places, classes) are log-probabilities, `lengths` the places of each row. The gradient of the negative
    log-likelihood with respect to `logs` is minus this. Rows whose labels don't fit have zeros.
    """
    states = 2 * max(len(row) for row in labels) + 1
    classes = np.zeros((len(labels), states), np.int64)
    for row, own in enumerate(labels):
        classes[row, 1 : 2 * len(own) : 2] = own
    counts = np.array([2 * len(own) + 1 for own in labels])
    emitted = np.take_along_axis(logs, np.broadcast_to(classes[:, None], (*logs.shape[:2], states)), axis=2)
    emitted = np.where(np.arange(states) < counts[:, None, None], emitted, NEVER)
    skips = np.zeros(classes.shape, bool)  # from the label before, without a pause
    skips[:, 3::2] = classes[:, 3::2] != classes[:, 1:-2:2]
    ends = np.full(classes.shape, NEVER)
    rows = np.arange(len(labels))
    ends[rows, counts - 1] = 0.0
    ends[rows, np.maximum(counts - 2, 0)] = 0.0
    before = _before(emitted, skips)
    after = _after(emitted, skips, ends, lengths)
    joint = before + after
    totals = np.logaddexp.reduce(joint[:, 0], axis=1)
    shares = np.exp(np.minimum(joint - totals[:, None, None], 0.0))
    shares *= (np.arange(logs.shape[1]) < lengths[:, None])[..., None] & (totals > NEVER / 2)[:, None, None]
    found: Array = np.einsum("rts,rsk->rtk", shares, np.eye(logs.shape[2])[classes])
    return found


def _before(emitted: Array, skips: npt.NDArray[np.bool_]) -> Array:
    """Of all ways to a state at a place, it included."""
    made = np.full((emitted.shape[1], emitted.shape[0], emitted.shape[2]), NEVER)
    made[0, :, :2] = emitted[:, 0, :2]
    for place in range(1, len(made)):
        last = made[place - 1]
        total = last.copy()
        total[:, 1:] = np.logaddexp(total[:, 1:], last[:, :-1])
        total[:, 2:] = np.logaddexp(total[:, 2:], np.where(skips[:, 2:], last[:, :-2], NEVER))
        made[place] = total + emitted[:, place]
    ways: Array = np.maximum(made.transpose(1, 0, 2), NEVER)
    return ways


def _after(emitted: Array, skips: npt.NDArray[np.bool_], ends: Array, lengths: npt.NDArray[np.int64]) -> Array:
    """Of all ways from a state at a place to the end, it excluded."""
    made = np.full((emitted.shape[1], emitted.shape[0], emitted.shape[2]), NEVER)
    made[-1] = ends
    for place in range(len(made) - 2, -1, -1):
        following = made[place + 1] + emitted[:, place + 1]
        total = following.copy()
        total[:, :-1] = np.logaddexp(total[:, :-1], following[:, 1:])
        total[:, :-2] = np.logaddexp(total[:, :-2], np.where(skips[:, 2:], following[:, 2:], NEVER))
        made[place] = np.where((place >= lengths - 1)[:, None], ends, total)
    ways: Array = np.maximum(made.transpose(1, 0, 2), NEVER)
    return ways
