"""`python -m training.voice.codec CORPUS OUT SECONDS [ROWS]`: trains the codec's decoder, codes to sound.

CORPUS holds what `training.voice.units` and `codebooks` wrote. The decoder learns the robots' sound of random
utterances, so many rows a step, for so many seconds. Into OUT goes codec.npz: its weights by the library's names.
Where it is there already, the decoder goes on from it.
"""

import training.quick_blas  # noqa: F401

# isort: split
import importlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_map_with_path
from mlx_audio.tts.models.qwen3_tts.config import Qwen3TTSTokenizerDecoderConfig, filter_dict_for_dataclass
from mlx_audio.tts.models.qwen3_tts.speech_tokenizer import Qwen3TTSSpeechTokenizerDecoder

from demo.voice_checkpoints import TRAINED, codec_config
from training.speech.forward import gelu
from training.voice import codebooks, layers, robot, units
from training.voice.robot import BANDS, FRAME
from training.voice.units import SILENCE, SPEAKERS, VOICES, Units

nn: Any = importlib.import_module("mlx.nn")  # half typed

UTTERANCES, UNITS_EACH = 64, 12  # of each voice
ROWS, FRAMES = 8, 20
RATE, WARM_UP = 2e-3, 50
WINDOWS = ((256, 64), (600, 150), (1600, 400))
QUIET = 1e-4
WAVE, HEARD = 0.25, 1.0  # how much the samples and what a listener makes of them count beside their spectra
HEARD_WINDOW, HEARD_BANDS, FAINT = 1, 80, 1e-7
TELL_EVERY = 50
LAST, LOUDNESS = "decoder.2.conv.weight", 0.05


class CodecUtterance(NamedTuple):
    """Which frames of all units follow each other, and their sound."""

    frames: npt.NDArray[np.int64]
    samples: npt.NDArray[np.float32]


def utterances(known: Units) -> list[CodecUtterance]:
    """Every unit of every voice that has a name, several times, in any order, with silence before and behind."""
    chosen = []
    for speaker in sorted(set(VOICES.values())):
        names = [name for name in known.places[speaker] if name != SILENCE]
        draw = random.Random(speaker)
        order: list[str] = []
        while len(order) < UTTERANCES * UNITS_EACH:
            order += draw.sample(names, len(names))
        for number in range(UTTERANCES):
            own = [SILENCE, *order[number * UNITS_EACH : (number + 1) * UNITS_EACH], SILENCE]
            own.insert(draw.randint(1, UNITS_EACH), SILENCE)
            chosen.append((speaker, [frame for name in own for frame in known.frames(speaker, name)]))
    with ProcessPoolExecutor() as processes:
        return list(processes.map(partial(_sounding, known.energies), chosen, chunksize=4))


def _sounding(energies: npt.NDArray[np.float32], chosen: tuple[str, list[int]]) -> CodecUtterance:
    speaker, frames = chosen
    wanted = energies[frames].reshape(-1, BANDS + 1).astype(np.float64)
    return CodecUtterance(np.array(frames), robot.spoken(wanted, SPEAKERS[speaker].pitch))


# -- the decoder ----------------------------------------------------------------------------------------------------


def new_decoder(books: codebooks.Codebooks) -> Any:
    """The library's, with weights to begin with."""
    config = codec_config("custom_voice", TRAINED)["decoder_config"]
    kind = Qwen3TTSTokenizerDecoderConfig
    decoder = Qwen3TTSSpeechTokenizerDecoder(kind(**filter_dict_for_dataclass(kind, config)))
    mx.random.seed(5)
    decoder.update(tree_map_with_path(_first, decoder.parameters()))
    quantizer = decoder.quantizer
    for group, layer in enumerate((*quantizer.rvq_first.vq.layers, *quantizer.rvq_rest.vq.layers)):
        layer.codebook.embed.weight = mx.array(books.vectors[group].astype(np.float32))
    quantizer.rvq_rest.output_proj.weight = quantizer.rvq_first.output_proj.weight
    return decoder


def _first(name: str, array: mx.array) -> mx.array:
    if name.endswith(("bias", "alpha", "beta")):
        return mx.zeros(array.shape)
    if array.ndim == 1:
        return mx.full(array.shape, 0.3 if name.endswith(("scale", "gamma")) else 1.0)
    if "dwconv" in name:
        return mx.random.normal(array.shape, scale=0.3)
    # A step of a transposed convolution sees one place of its input.
    fan = array.shape[-1] if name.startswith("upsample") else int(np.prod(array.shape[1:]))
    return mx.random.normal(array.shape, scale=(LOUDNESS if name == LAST else 1.0) * fan**-0.5)


def decode(decoder: Any, codes: mx.array) -> mx.array:
    """Samples (rows, frames * 1920) of codes (rows, frames, groups): the library's forward, quick to learn through."""
    quantizer = decoder.quantizer
    parts = ((quantizer.rvq_first, codes[..., :1]), (quantizer.rvq_rest, codes[..., 1:]))
    x = sum(_vectors(part, own) @ part.output_proj.weight[:, 0].T for part, own in parts)
    x = _transformed(decoder.pre_transformer, _convolved(x, decoder.pre_conv.conv))
    for stretch, block in decoder.upsample:
        weight = stretch.conv.weight
        rows, length, width = x.shape
        x = (x @ weight.transpose(2, 1, 0).reshape(width, -1)).reshape(rows, length * weight.shape[1], -1)
        x = _mixed(block, x + stretch.conv.bias)
    first, snake, last = decoder.decoder
    x = _convolved(x, first.conv)
    x = x + mx.exp(-snake.beta) * mx.square(mx.sin(x * mx.exp(snake.alpha)))
    samples: mx.array = _convolved(x, last.conv)[..., 0]
    return samples


def _vectors(part: Any, codes: mx.array) -> mx.array:
    total: mx.array = sum(layer.codebook.embed(codes[..., place]) for place, layer in enumerate(part.vq.layers))
    return total


def _transformed(transformer: Any, x: mx.array) -> mx.array:
    x = transformer.input_proj(x)
    turns = layers.turns(x.shape[1], transformer.config.head_dim, transformer.config.rope_theta)
    for layer in transformer.layers:
        seen = layers.attended(layer.self_attn, layer.input_layernorm(x), turns)
        x = x + layer.self_attn_layer_scale(seen)
        x = x + layer.mlp_layer_scale(layers.gated(layer.mlp, layer.post_attention_layernorm(x)))
    result: mx.array = transformer.output_proj(transformer.norm(x))
    return result


def _convolved(x: mx.array, convolution: Any) -> mx.array:
    """Causal. (rows, places, channels)"""
    size = convolution.weight.shape[1]
    padded = mx.pad(x, [(0, 0), (size - 1, 0), (0, 0)])
    shifted = [padded[:, place : place + x.shape[1]] for place in range(size)]
    made = mx.concatenate(shifted, axis=-1) @ convolution.weight.reshape(convolution.weight.shape[0], -1).T
    result: mx.array = made + convolution.bias
    return result


def _mixed(block: Any, x: mx.array) -> mx.array:
    weight = block.dwconv.conv.weight[..., 0]  # (channels, kernel)
    size = weight.shape[1]
    padded = mx.pad(x, [(0, 0), (size - 1, 0), (0, 0)])
    y = sum(padded[:, place : place + x.shape[1]] * weight[:, place] for place in range(size))
    y = block.pwconv2(gelu(block.pwconv1(block.norm(y + block.dwconv.conv.bias))))
    mixed: mx.array = x + block.gamma * y
    return mixed


# -- learning -------------------------------------------------------------------------------------------------------


class Spectra:
    """Magnitudes of windows of several lengths, by matrices: (rows, windows, frequencies) each."""

    def __init__(self) -> None:
        self._waves = [_waves(window) for window, _ in WINDOWS]
        self.bands = _bands(WINDOWS[HEARD_WINDOW][0])

    def __call__(self, samples: mx.array) -> list[mx.array]:
        found = []
        for (window, hop), waves in zip(WINDOWS, self._waves, strict=True):
            count = (samples.shape[1] - window) // hop + 1
            times = window // hop
            parts = samples[:, : (count + times - 1) * hop].reshape(len(samples), -1, hop)
            windows = mx.concatenate([parts[:, place : place + count] for place in range(times)], axis=-1)
            both = windows @ waves
            real, imaginary = both[..., : window // 2], both[..., window // 2 :]
            found.append(mx.sqrt(real * real + imaginary * imaginary + 1e-9))
        return found


def _waves(window: int) -> mx.array:
    """(window, 2 * half of it): cosines and sines under a window, so that full scale is about 1."""
    angles = 2 * np.pi * np.arange(window)[:, None] * np.arange(1, window // 2 + 1) / window
    shape = np.hanning(window + 1)[:-1, None] * 4 / window
    return mx.array((np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * shape).astype(np.float32))


def _bands(window: int) -> mx.array:
    """(half of a window, bands): what a listener tells apart."""
    return mx.array(robot.filters(robot.RATE, window, HEARD_BANDS).T[1:].astype(np.float32))


def loss(decoder: Any, spectra: Spectra, codes: mx.array, wanted: mx.array, skipped: int) -> mx.array:
    """Of the samples after so many, whose past may be cut off."""
    made, right = decode(decoder, codes)[:, skipped:], wanted[:, skipped:]
    total = WAVE * mx.abs(made - right).mean() / (mx.abs(right).mean() + 1e-4)
    ours, theirs = spectra(made), spectra(right)
    for own, target in zip(ours, theirs, strict=True):
        total = total + mx.abs(own - target).mean() / (target.mean() + 1e-5)
        total = total + 0.5 * mx.abs(mx.log(own + QUIET) - mx.log(target + QUIET)).mean()
    own, target = (mx.log(mx.square(one[HEARD_WINDOW]) @ spectra.bands + FAINT) for one in (ours, theirs))
    return total + HEARD * mx.abs(own - target).mean()


def batches(
    codes: npt.NDArray[np.int64], heard: list[CodecUtterance], rows: int
) -> Iterator[tuple[mx.array, mx.array]]:
    """Codes and samples of stretches of frames."""
    draw = random.Random(2)
    while True:
        chosen = draw.choices(heard, k=rows)
        starts = [draw.randint(0, len(one.frames) - FRAMES) for one in chosen]
        pairs = list(zip(chosen, starts, strict=True))
        yield (
            mx.array(np.stack([codes[one.frames[start : start + FRAMES]] for one, start in pairs])),
            mx.array(np.stack([one.samples[start * FRAME : (start + FRAMES) * FRAME] for one, start in pairs])),
        )


def train(decoder: Any, data: Iterator[tuple[mx.array, mx.array]], seconds: float, keep: Callable[[], None]) -> None:
    """In place. The rate falls as the time goes by; `keep` is called now and then, and at the end."""
    spectra = Spectra()
    optimizer = optim.Adam(RATE, betas=[0.9, 0.98])
    step_of = nn.value_and_grad(decoder, lambda codes, wanted: loss(decoder, spectra, codes, wanted, 4 * FRAME))
    began, step, seen, kept = time.monotonic(), 0, 0.0, time.monotonic()
    while (gone := (time.monotonic() - began) / seconds) < 1:
        optimizer.learning_rate = RATE * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * np.cos(gone * np.pi / 2))
        value, gradients = step_of(*next(data))
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)  # type: ignore[no-untyped-call]
        optimizer.update(decoder, gradients)
        mx.eval(decoder.parameters(), optimizer.state, value)
        step += 1
        seen = value.item() if step == 1 else 0.98 * seen + 0.02 * value.item()
        if step % TELL_EVERY == 0:
            sys.stdout.write(f"codec step {step:5}: {seen:.3f}, {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
        if time.monotonic() - kept > 30:
            keep()
            kept = time.monotonic()
    keep()


def save(decoder: Any, out: Path) -> None:
    layers.keep_weights(decoder, out / "codec.npz")


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) not in (3, 4):
        sys.stderr.write("usage: python -m training.voice.codec CORPUS OUT SECONDS [ROWS]\n")
        return 2
    corpus, out = Path(arguments[0]), Path(arguments[1])
    rows = int(arguments[3]) if len(arguments) == 4 else ROWS
    out.mkdir(parents=True, exist_ok=True)
    mx.set_cache_limit(layers.CACHE)
    books, heard = codebooks.read(corpus), utterances(units.read(corpus))
    decoder = new_decoder(books)
    layers.know_weights(decoder, out / "codec.npz")
    train(decoder, batches(books.codes, heard, rows), float(arguments[2]), lambda: save(decoder, out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
