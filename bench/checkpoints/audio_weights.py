"""Writes the checkpoints of the audio part, with the scale on stdin.

Started as `python -P -m bench.checkpoints.audio_weights FOLDER`.

The demo's, larger, and with weights that say so many tokens of every piece and then end (see `chains`). A process of
its own, for the library tells the names and shapes.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from mlx.utils import tree_flatten
from mlx_audio.stt.models.qwen3_asr import Model as Qwen3Asr
from mlx_audio.stt.models.qwen3_asr import ModelConfig as Qwen3AsrConfig
from mlx_audio.stt.models.whisper.whisper import Model as Whisper
from mlx_audio.stt.models.whisper.whisper import ModelDimensions
from mlx_audio.tts.models.qwen3_tts.config import ModelConfig as Qwen3TtsConfig
from mlx_audio.tts.models.qwen3_tts.qwen3_tts import Model as Qwen3Tts
from tokenizers import Tokenizer

from bench.checkpoints import chains
from bench.libraries.jobs import AudioKind, model_of
from bench.scale import AudioScale
from demo.checkpoints import TransformerSize, write_weights
from demo.speech_checkpoints import speech_tokenizer, write_qwen3_asr
from demo.voice_checkpoints import BOS, CODES, EOS, make_qwen3_tts
from demo.whisper_checkpoint import make_whisper

MELS = 128
LETTERS = "abcdefghijklmnopqrst"
WORDS = tuple(f"{one}{other}" for one in LETTERS for other in LETTERS)
SECTIONS = (3, 8)  # of a head's half, to the first of its three axes


def write_asr(folder: Path, scale: AudioScale) -> None:
    """Qwen3-ASR: `<asr_text>`, the words, the end."""
    tokenizer = speech_tokenizer(WORDS[: scale.tokens], ("English", "Chinese"))
    size = TransformerSize(scale.layers, scale.hidden, scale.intermediate, scale.heads, scale.kv_heads, scale.head_dim)
    write_qwen3_asr(folder, tokenizer, ("English", "Chinese"), size=size)
    audio = {
        "num_mel_bins": MELS,
        "encoder_layers": scale.encoder_layers,
        "encoder_attention_heads": scale.heads,
        "encoder_ffn_dim": scale.intermediate,
        "d_model": scale.hidden,
        "output_dim": scale.hidden,
        "downsample_hidden_size": scale.channels,
    }
    config = _changed(folder / "config.json", lambda config: config["thinker_config"]["audio_config"].update(audio))
    _changed(folder / "preprocessor_config.json", lambda config: config.update(feature_size=MELS))
    chain = _ids(tokenizer, ["<asr_text>", *(f"Ġ{word}" for word in WORDS[: scale.tokens]), "<|im_end|>"])
    shapes = _shapes(Qwen3Asr(Qwen3AsrConfig.from_dict(config))._model)
    text = [
        name for name in shapes if name.startswith("model.") and name.endswith(("o_proj.weight", "down_proj.weight"))
    ]
    weights = chains.scattered(shapes, text)
    table, turn = chains.turned(tokenizer.get_vocab_size(), scale.hidden, chain)
    last = f"model.layers.{scale.layers - 1}.mlp"
    gate, up, down = chains.gated(turn, scale.intermediate)
    weights |= {f"{last}.gate_proj.weight": gate, f"{last}.up_proj.weight": up, f"{last}.down_proj.weight": down}
    weights["model.embed_tokens.weight"] = table
    write_weights(folder / "model.safetensors", {name: weights[name] for name in shapes if name != "lm_head.weight"})


def write_whisper(folder: Path, scale: AudioScale) -> None:
    """Whisper: the task, the beginning, words, a time near the end, the end."""
    make_whisper(folder)
    width, layers = scale.whisper_hidden, scale.whisper_layers
    sizes = {"state": width, "head": width // scale.head_dim, "layer": layers}
    changes = {f"n_{side}_{name}": value for side in ("audio", "text") for name, value in sizes.items()}
    config = _changed(folder / "config.json", lambda config: config.update(changes))
    heads = [[layers - 1, head] for head in range(sizes["head"])]
    _changed(folder / "generation_config.json", lambda config: config.update(alignment_heads=heads))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    known = sorted((id, piece) for piece, id in tokenizer.get_vocab().items())
    words = [id for id, piece in known if piece[0] == "Ġ" and piece[1:].isascii() and piece[1:].isalpha()]
    last = f"<|{scale.seconds - 1:.2f}|>"
    task, first, last_id, over = _ids(tokenizer, ["<|transcribe|>", "<|0.00|>", last, "<|endoftext|>"])
    chain = [task, first, *words[: scale.tokens], last_id, over]
    dimensions = ModelDimensions(**{name: value for name, value in config.items() if name.startswith("n_")})
    shapes = _shapes(Whisper(dimensions))
    faint = ("out.weight", "mlp2.weight", "decoder.positional_embedding")
    weights = chains.scattered(shapes, [name for name in shapes if "decoder" in name and name.endswith(faint)])
    table, turn = chains.turned(config["n_vocab"], width, chain)
    stem = f"decoder.blocks.{layers - 1}"
    parts = chains.bent(turn, 4 * width)
    names = [f"{stem}.{part}" for part in ("mlp1.weight", "mlp1.bias", "mlp2.weight", "mlp2.bias")]
    weights |= dict(zip(names, parts, strict=True))
    weights["decoder.token_embedding.weight"] = table
    write_weights(folder / "model.safetensors", weights)


def write_tts(folder: Path, scale: AudioScale) -> None:
    """Qwen3-TTS: so many codes, the end. The codec is the demo's."""
    make_qwen3_tts(folder)
    sizes = {
        "hidden_size": scale.hidden,
        "intermediate_size": scale.intermediate,
        "num_attention_heads": scale.heads,
        "num_key_value_heads": scale.kv_heads,
        "head_dim": scale.head_dim,
    }
    axis = scale.head_dim // 2 * SECTIONS[0] // SECTIONS[1]
    rope = {"interleaved": True, "mrope_section": [scale.head_dim // 2 - 2 * axis, axis, axis], "rope_type": "default"}
    own = {"num_hidden_layers": scale.layers, "text_hidden_size": scale.hidden, "rope_scaling": rope}

    def enlarge(config: dict[str, Any]) -> None:
        config["talker_config"] |= {**sizes, **own}
        config["talker_config"]["code_predictor_config"] |= sizes

    config = _changed(folder / "config.json", enlarge)
    shapes = _shapes(Qwen3Tts(Qwen3TtsConfig.from_dict(config)))
    shapes = {name: shape for name, shape in shapes.items() if name.startswith("talker.")}
    faint = ("o_proj.weight", "down_proj.weight", "linear_fc2.weight")
    beside = [name for name in shapes if name.endswith(faint) or "code_predictor.model.codec_embedding" in name]
    weights = chains.scattered(shapes, beside)
    rows = config["talker_config"]["vocab_size"]
    embeddings, head = chains.led(rows, scale.hidden, [BOS, *range(min(scale.frames, CODES)), EOS])
    weights |= {"talker.model.codec_embedding.weight": embeddings, "talker.codec_head.weight": head}
    write_weights(folder / "model.safetensors", weights)


WRITERS: Mapping[AudioKind, Callable[[Path, AudioScale], None]] = {
    "qwen3-asr": write_asr,
    "whisper": write_whisper,
    "qwen3-tts": write_tts,
}


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    parameters: dict[str, Any] = dict(tree_flatten(module.parameters()))
    return {name: tuple(parameter.shape) for name, parameter in parameters.items()}


def _ids(tokenizer: Tokenizer, tokens: Sequence[str]) -> list[int]:
    found = [tokenizer.token_to_id(token) for token in tokens]
    assert None not in found
    return [id for id in found if id is not None]


def _changed(path: Path, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def main(words: list[str]) -> int:
    scale = msgspec.json.decode(sys.stdin.buffer.read(), type=AudioScale)
    for name, write in WRITERS.items():
        write(Path(words[0]) / model_of(name), scale)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
