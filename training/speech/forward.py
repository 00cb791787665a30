"""Qwen3-ASR's forward for many recordings at once, on the library's own modules, and quick on a processor.

The library has it for one recording, with convolutions and activations that are ten times slower to learn through. The
values are the same to six digits.
"""

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

CHUNK, POSITIONS = 100, 13  # frames that are convolved together, and how many positions they become
WINDOW = 8 * POSITIONS  # positions that see each other
UNSEEN = -1e9

# Abramowitz and Stegun, 7.1.28: erfc(z) is 1 / (1 + z * these)^16.
_ERFC = (0.0705230784, 0.0422820123, 0.0092705272, 0.0001520143, 0.0002765672, 0.0000430638)
_HALF = 0.5**0.5


def positions(frames: int) -> int:
    """Of the encoder's output."""
    whole, rest = divmod(frames, CHUNK)
    for _ in range(3):
        rest = (rest + 1) // 2
    return whole * POSITIONS + rest


def encode(tower: Any, frames: mx.array, lengths: mx.array) -> mx.array:
    """(rows, positions, width of the text model), of `lengths` (rows,) beyond which stands whatever.

    `frames` (rows, whole chunks of frames, bins) are zero beyond the end of a row.
    """
    rows, _, bins = frames.shape
    x: Any = frames.reshape(-1, CHUNK, bins).transpose(0, 2, 1)[..., None]
    for convolution in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        x = gelu(convolve(x, convolution.weight) + convolution.bias)
    chunks, bins, times, channels = x.shape
    x = tower.conv_out(x.transpose(0, 2, 3, 1).reshape(chunks, times, channels * bins))
    x = x + tower.positional_embedding(times)
    x = x.reshape(rows, -1, x.shape[-1])
    order = mx.arange(x.shape[1])
    near = order[:, None] // WINDOW == order[None] // WINDOW
    seen = near[None] & (order[None, None] < lengths[:, None, None])
    mask = mx.where(seen, 0.0, UNSEEN)[:, None]
    for layer in tower.layers:
        x = x + _attend(layer.self_attn, layer.self_attn_layer_norm(x), mask)
        x = x + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(x))))
    result: mx.array = tower.proj2(gelu(tower.proj1(tower.ln_post(x))))
    return result


def decode(text: Any, x: mx.array) -> mx.array:
    """(rows, tokens, width) to the same; every token sees those before it."""
    for layer in text.layers:
        x = x + layer.self_attn(layer.input_layernorm(x), mask="causal")
        y = layer.post_attention_layernorm(x)
        x = x + layer.mlp.down_proj(silu(layer.mlp.gate_proj(y)) * layer.mlp.up_proj(y))
    result: mx.array = text.norm(x)
    return result


@mx.custom_function
def convolve(x: mx.array, weight: mx.array) -> mx.array:
    """3 x 3 with a stride of 2 and a border of 1, as one product of matrices."""
    return _surroundings(x) @ _kernel(weight)


@convolve.vjp
def _convolve_gradient(given: tuple[mx.array, mx.array], gradient: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
    x, weight = given
    columns = _surroundings(x)
    flat = gradient.reshape(-1, gradient.shape[-1])
    to_kernel = columns.reshape(-1, columns.shape[-1]).T @ flat
    out, channels = weight.shape[0], weight.shape[3]
    to_weight = to_kernel.reshape(3, 3, channels, out).transpose(3, 0, 1, 2)
    to_columns = (gradient @ _kernel(weight).T).reshape(*gradient.shape[:3], 3, 3, channels)
    return _spread(to_columns)[:, 1 : x.shape[1] + 1, 1 : x.shape[2] + 1], to_weight


def _kernel(weight: mx.array) -> mx.array:
    return weight.transpose(1, 2, 3, 0).reshape(-1, weight.shape[0])


def _surroundings(x: mx.array) -> mx.array:
    """(..., height / 2, width / 2, 9 x channels)"""
    height, width = ((size + 1) // 2 for size in x.shape[1:3])
    x = mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifted = [x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2] for i in range(3) for j in range(3)]
    return mx.concatenate(shifted, axis=-1)


def _spread(columns: mx.array) -> mx.array:
    """The sum of (rows, height, width, 3, 3, channels) where they came from; even and odd places apart, then mixed."""
    rows, height, width, _, _, channels = columns.shape

    def place(i: int, j: int) -> mx.array:
        down, right = i // 2, j // 2
        return mx.pad(columns[:, :, :, i, j], [(0, 0), (down, 1 - down), (right, 1 - right), (0, 0)])

    even = mx.stack([place(0, 0) + place(2, 0) + place(0, 2) + place(2, 2), place(0, 1) + place(2, 1)], axis=3)
    odd = mx.stack([place(1, 0) + place(1, 2), place(1, 1)], axis=3)
    return mx.stack([even, odd], axis=2).reshape(rows, 2 * height + 2, 2 * width + 2, channels)


def _attend(attention: Any, x: mx.array, mask: mx.array) -> mx.array:
    rows, length, width = x.shape
    queries, keys, values = (
        project(x).reshape(rows, length, attention.num_heads, -1).transpose(0, 2, 1, 3)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=attention.scaling, mask=mask)
    result: mx.array = attention.out_proj(mixed.transpose(0, 2, 1, 3).reshape(rows, length, width))
    return result


# -- activations of sums, products and quotients only, which compile to vector instructions ---------------------------


def _erfc(z: mx.array) -> tuple[mx.array, mx.array]:
    """And the root of its sixteenth part."""
    root = 1 / (1 + _polynomial(z, _ERFC))
    return _sixteenth_power(root), root


def _polynomial(x: mx.array, factors: Sequence[float]) -> mx.array:
    """Without a constant part. Beginning with an array of equal numbers would cost compiled code its speed."""
    total = x * factors[-1]
    for factor in reversed(factors[:-1]):
        total = x * (total + factor)
    return total


def _sixteenth_power(x: mx.array) -> mx.array:
    for _ in range(4):
        x = x * x
    return x


def _gelu(x: mx.array) -> mx.array:
    size = mx.abs(x)
    return mx.maximum(x, 0) - 0.5 * size * _erfc(size * _HALF)[0]


def _gelu_slope(x: mx.array) -> mx.array:
    size = mx.abs(x)
    z = size * _HALF
    value, root = _erfc(z)
    first, *others = (power * factor for power, factor in enumerate(_ERFC, start=1))
    rise = first + _polynomial(z, others)
    sign = mx.sign(x)
    return 0.5 * (1 + sign) + sign * (8 * z * value * root * rise - 0.5 * value)


def _sigmoid(x: mx.array) -> mx.array:
    """By e^-|x|, which is the sixteenth power of 1 / e^(|x| / 16)."""
    part = mx.minimum(mx.abs(x), 30) / 16
    falling = _sixteenth_power(1 / (1 + _polynomial(part, [1 / math.factorial(power) for power in range(1, 9)])))
    small = falling / (1 + falling)
    return 0.5 + mx.sign(x) * (0.5 - small)


def _silu(x: mx.array) -> mx.array:
    return x * _sigmoid(x)


def _silu_slope(x: mx.array) -> mx.array:
    sigmoid = _sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


_compiled = {one: mx.compile(one, shapeless=True) for one in (_gelu, _gelu_slope, _silu, _silu_slope)}


@mx.custom_function
def gelu(x: mx.array) -> mx.array:
    """As `mlx.nn.gelu`."""
    return _compiled[_gelu](x)


@gelu.vjp
def _gelu_gradient(x: mx.array, gradient: mx.array, _: mx.array) -> mx.array:
    return gradient * _compiled[_gelu_slope](x)


@mx.custom_function
def silu(x: mx.array) -> mx.array:
    """As `mlx.nn.silu`."""
    return _compiled[_silu](x)


@silu.vjp
def _silu_gradient(x: mx.array, gradient: mx.array, _: mx.array) -> mx.array:
    return gradient * _compiled[_silu_slope](x)
