"""Whisper in miniature: the genuine architecture, trained or with random weights.

The same call always writes the same bytes.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from demo.checkpoints import WEIGHTS, Array, Shapes, stored, write_weights

CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
SIGNS = (
    "♩ ♪ ♫ ♬ ♭ ♮ ♯ - '"  # never said; were they not learnt, their first bytes, a space among them, would not be either
)
TIMES = 1501  # every 20 ms from 0 to 30 s
END_OF_TEXT = 50257  # where it stands in the vocabulary for many languages; by that size it is known as such
BINS = 80
FRAMES, CONTEXT = 1500, 448
HEAD = 32
EMBEDDINGS = "decoder.token_embedding.weight"
HEARD = 1.5  # how strongly what is heard, against what was said, chooses the next token


@dataclass(frozen=True)
class WhisperSize:
    """The dimensions of a model."""

    state: int
    audio_layers: int
    audio_heads: int
    text_layers: int
    text_heads: int
    bins: int = BINS


# On a CPU, what looks at 1,500 places from each of them takes most of the time.
RANDOM = WhisperSize(state=32, audio_layers=1, audio_heads=1, text_layers=2, text_heads=2)


def make_whisper(
    folder: Path, *, multilingual: bool = True, bins: int = BINS, seed: int = 18, times: float = 5.0
) -> None:
    """Writes a Whisper checkpoint of 1 + 2 layers x 32, float16, under 4 MB, with random weights.

    It says different things of different sounds, in segments with times, and comes to an end. Most of the ids of a
    `multilingual` one have no token: only so is it small. The larger `times`, the more times it says.
    """
    corpus = (Path(__file__).parent / "corpus.txt").read_text(encoding="utf-8")
    tokenizer = whisper_tokenizer(corpus.splitlines(keepends=True), 1000 if multilingual else 300, multilingual)
    size = replace(RANDOM, bins=bins)
    weights = _weights(tokenizer, write_files(folder, tokenizer, size), size, seed, times)
    write_weights(folder / "model.safetensors", {name: one.astype(np.float16) for name, one in weights.items()})


def trained_whisper(folder: Path, source: Path = WEIGHTS) -> None:
    """Writes the Whisper checkpoint that writes down a few dozen words of three languages, float16.

    In `source` are the embeddings of known tokens alone; ids without a token get zeros.
    """
    tokenizer = Tokenizer.from_file(str(source / "whisper.tokenizer.json"))
    weights = stored(source / "whisper.safetensors")
    size = _size({name: weight.shape for name, weight in weights.items()})
    table = np.zeros((write_files(folder, tokenizer, size, ["transcribe"]), size.state), np.float32)
    table[known_ids(tokenizer)] = weights[EMBEDDINGS]
    weights[EMBEDDINGS] = table
    write_weights(folder / "model.safetensors", {name: one.astype(np.float16) for name, one in weights.items()})


def known_ids(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Those that have a token, in order."""
    return np.array(sorted(tokenizer.get_vocab().values()))


def _size(shapes: Shapes) -> WhisperSize:
    """Of a trained checkpoint, whose heads all have 32 dimensions."""
    state, _, bins = shapes["encoder.conv1.weight"]
    layers = [sum(name.startswith(side) and name.endswith("mlp1.bias") for name in shapes) for side in ("enc", "dec")]
    return WhisperSize(state, layers[0], state // HEAD, layers[1], state // HEAD, bins)


def write_files(
    folder: Path, tokenizer: Tokenizer, size: WhisperSize, tasks: Sequence[str] = ("translate", "transcribe")
) -> int:
    """All of a checkpoint but its weights; how many ids it has. `tasks` are those that it was taught."""
    rows = max(tokenizer.get_vocab().values()) + 1
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    alignment = [[size.text_layers - 1, head] for head in range(size.text_heads)]
    files = {
        "config.json": {"model_type": "whisper", **dimensions(rows, size)},
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizer",
            **{f"{role}_token": end for role in ("bos", "eos", "pad", "unk")},
        },
        "preprocessor_config.json": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": size.bins},
        "generation_config.json": {
            "alignment_heads": alignment,
            "task_to_id": {task: tokenizer.token_to_id(f"<|{task}|>") for task in tasks},
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return rows


def dimensions(rows: int, size: WhisperSize) -> dict[str, int]:
    """As MLX's Whisper names them."""
    return {
        "n_mels": size.bins,
        "n_audio_ctx": FRAMES,
        "n_audio_state": size.state,
        "n_audio_head": size.audio_heads,
        "n_audio_layer": size.audio_layers,
        "n_vocab": rows,
        "n_text_ctx": CONTEXT,
        "n_text_state": size.state,
        "n_text_head": size.text_heads,
        "n_text_layer": size.text_layers,
    }


def whisper_tokenizer(texts: Iterable[str], entries: int, multilingual: bool) -> Tokenizer:
    """Byte-level, learnt from these texts; behind the text come the control tokens, and last the times."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator([*texts, *[SIGNS] * 200], trainer)
    learnt.decoder = decoders.ByteLevel()
    marks = ["endoftext", "startoftranscript", *CODES, *TASKS, *(f"{step / 50:.2f}" for step in range(TIMES))]
    data = json.loads(learnt.to_str())
    vocabulary = data["model"]["vocab"]
    first = END_OF_TEXT if multilingual else len(vocabulary)
    vocabulary |= {f"<|{mark}|>": first + place for place, mark in enumerate(marks)}
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokens = [AddedToken(f"<|{mark}|>", normalized=False, special=not mark[0].isdigit()) for mark in marks]
    tokenizer.add_special_tokens([token for token in tokens if token.special])
    tokenizer.add_tokens([token for token in tokens if not token.special])
    return tokenizer


def _weights(tokenizer: Tokenizer, rows: int, size: WhisperSize, seed: int, times: float) -> dict[str, Array]:
    """By the names that MLX's Whisper gives them."""
    generator = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for name, shape in _shapes(rows, size).items():
        if name.endswith("bias"):
            weights[name] = np.zeros(shape, np.float32)
        elif len(shape) == 1:
            weights[name] = np.ones(shape, np.float32)
        else:
            scale = float(np.prod(shape[1:])) ** -0.5 * _gain(name)
            weights[name] = generator.standard_normal(shape, np.float32) * np.float32(scale)
    weights[EMBEDDINGS] = _embeddings(tokenizer, rows, size.state, generator, times)
    weights["decoder.ln.weight"][0], weights["decoder.ln.bias"][0] = 0, 1
    return weights


def _gain(name: str) -> float:
    """Sharp attention, and more from what was heard and the place than from the last token, which would be repeated."""
    if "positional" in name:
        return 8.0
    if "cross_attn.value" in name or "cross_attn.out" in name:
        return 2.0 * HEARD
    if "query" in name or "key" in name:
        return 3.0
    return 2.0


def _embeddings(tokenizer: Tokenizer, rows: int, state: int, generator: np.random.Generator, times: float) -> Array:
    """[rows, state]; the norm before the head gives 1 in the first place, so what stands there is added to a logit.

    Times have much in common, and more with their neighbours: they come together, or not. The end is rare.
    """
    table = generator.standard_normal((rows, state), np.float32)
    table *= np.float32(state**0.5) / np.linalg.norm(table, axis=1, keepdims=True)
    end, begin = (tokenizer.token_to_id(mark) for mark in ("<|endoftext|>", "<|0.00|>"))
    assert end is not None and begin is not None
    known = np.zeros(rows, bool)
    known[list(tokenizer.get_vocab().values())] = True
    table[~known] = 0
    table[:, 0] = 0
    table[end + 1 : begin, 0] = -4
    table[end, 0] = 6
    walk = generator.standard_normal((TIMES, state), np.float32).cumsum(axis=0) / np.float32(TIMES**0.5)
    table[begin:] = 0.1 * table[begin:] + 0.4 * walk + 1.3 * generator.standard_normal(state, np.float32)
    table[begin:, 0] = times
    return table


def _shapes(rows: int, size: WhisperSize) -> Shapes:
    state = size.state
    shapes: Shapes = {
        "encoder.conv1.weight": (state, 3, size.bins),
        "encoder.conv1.bias": (state,),
        "encoder.conv2.weight": (state, 3, state),
        "encoder.conv2.bias": (state,),
        "encoder.ln_post.weight": (state,),
        "encoder.ln_post.bias": (state,),
        EMBEDDINGS: (rows, state),
        "decoder.positional_embedding": (CONTEXT, state),
        "decoder.ln.weight": (state,),
        "decoder.ln.bias": (state,),
    }
    for block in (f"encoder.blocks.{layer}" for layer in range(size.audio_layers)):
        shapes |= _attention(f"{block}.attn", state) | _feed_forward(block, state)
    for block in (f"decoder.blocks.{layer}" for layer in range(size.text_layers)):
        shapes |= _attention(f"{block}.attn", state) | _attention(f"{block}.cross_attn", state)
        shapes |= _feed_forward(block, state)
    return shapes


def _attention(stem: str, state: int) -> Shapes:
    shapes: Shapes = {f"{stem}.{part}.weight": (state, state) for part in ("query", "key", "value", "out")}
    shapes |= {f"{stem}.{part}.bias": (state,) for part in ("query", "value", "out")}
    return shapes | {f"{stem}_ln.{part}": (state,) for part in ("weight", "bias")}


def _feed_forward(stem: str, state: int) -> Shapes:
    return {
        f"{stem}.mlp1.weight": (4 * state, state),
        f"{stem}.mlp1.bias": (4 * state,),
        f"{stem}.mlp2.weight": (state, 4 * state),
        f"{stem}.mlp2.bias": (state,),
        f"{stem}.mlp_ln.weight": (state,),
        f"{stem}.mlp_ln.bias": (state,),
    }
