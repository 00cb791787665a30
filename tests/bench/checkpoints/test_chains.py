"""Made weights say one token after another: checked with the arithmetic of the layers that they are for."""

import numpy as np
import pytest

from bench.checkpoints import chains

WIDTH, ROWS = 64, 300
CHAIN = [7, 250, 3, 199, 42, 299]

Array = chains.Array


def rms(hidden: Array) -> Array:
    scaled: Array = hidden / np.sqrt((hidden**2).mean())
    return scaled


def centred(hidden: Array) -> Array:
    moved: Array = (hidden - hidden.mean()) / hidden.std()
    return moved


def gelu(inner: Array) -> Array:
    bent: Array = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    return bent


def test_a_gated_layer_leads_every_token_to_the_next() -> None:
    table, turn = chains.turned(ROWS, WIDTH, CHAIN)
    gate, up, down = chains.gated(turn, 2 * WIDTH)
    for token, following in zip(CHAIN, CHAIN[1:], strict=False):
        hidden = rms(table[token])
        opened = gate @ hidden
        hidden = hidden + down @ (opened / (1 + np.exp(-opened)) * (up @ hidden))
        logits = table @ rms(hidden)
        assert logits.argmax() == following
        assert np.sort(logits)[-1] - np.sort(logits)[-2] > 10  # so that no rounding changes it


def test_a_layer_with_biases_does_so_too() -> None:
    table, turn = chains.turned(ROWS, WIDTH, CHAIN)
    first, lift, second, shift = chains.bent(turn, 4 * WIDTH)
    for token, following in zip(CHAIN, CHAIN[1:], strict=False):
        hidden = table[token]
        hidden = hidden + second @ gelu(first @ centred(hidden) + lift) + shift
        assert (table @ centred(hidden)).argmax() == following


def test_a_head_of_its_own_is_sure_of_the_next_token() -> None:
    table, head = chains.led(ROWS, WIDTH, CHAIN)
    for token, following in zip(CHAIN, CHAIN[1:], strict=False):
        logits = head @ rms(table[token])
        assert logits.argmax() == following
        assert np.sort(logits)[-1] - np.sort(logits)[-2] > 20  # so that drawing by chance doesn't change it


def test_what_stands_beside_the_chain_is_faint() -> None:
    weights = chains.scattered(
        {"a.o_proj.weight": (50, 50), "b.weight": (50, 50), "c": (9,), "c.bias": (9,)}, ["o_proj.weight"]
    )
    assert weights["a.o_proj.weight"].std() == pytest.approx(chains.FAINT * weights["b.weight"].std(), rel=0.1)
    assert set(weights["c"]) == {1.0} and set(weights["c.bias"]) == {0.0}
