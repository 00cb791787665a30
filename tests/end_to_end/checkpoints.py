"""Models whose pace doesn't depend on what they say: the demo's Qwen3, far narrower, as deep as is asked for."""

import json
import struct
from pathlib import Path

import numpy as np

from demo.checkpoints import make_qwen3

SIZE = 32
SHAPES = {
    "self_attn.q_proj": (SIZE, SIZE),
    "self_attn.k_proj": (SIZE, SIZE),
    "self_attn.v_proj": (SIZE, SIZE),
    "self_attn.o_proj": (SIZE, SIZE),
    "self_attn.q_norm": (SIZE,),
    "self_attn.k_norm": (SIZE,),
    "mlp.gate_proj": (SIZE, SIZE),
    "mlp.up_proj": (SIZE, SIZE),
    "mlp.down_proj": (SIZE, SIZE),
    "input_layernorm": (SIZE,),
    "post_attention_layernorm": (SIZE,),
}


def make_endless(folder: Path, layers: int) -> None:
    """Never ends by itself; the more layers, the longer it loads, reads a prompt and writes."""
    make_qwen3(folder, padded=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    end = config["vocab_size"] - 1  # padding, which is never chosen
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}), encoding="utf-8")
    narrow = {"hidden_size": SIZE, "intermediate_size": SIZE, "num_attention_heads": 1, "num_key_value_heads": 1}
    text = json.dumps({**config, **narrow, "head_dim": SIZE, "num_hidden_layers": layers, "eos_token_id": end})
    (folder / "config.json").write_text(text, encoding="utf-8")
    rows = config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (rows, SIZE), "lm_head": (rows, SIZE)}
    for layer in range(layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in SHAPES.items()}
    _write(folder / "model.safetensors", {**shapes, "model.norm": (SIZE,)})


def _write(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Small random numbers in the format of safetensors."""
    header: dict[str, object] = {}
    position = 0
    for name, shape in shapes.items():
        end = position + 4 * int(np.prod(shape))
        header[f"{name}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    numbers = np.random.default_rng(7).standard_normal(position // 4, np.float32) * np.float32(SIZE**-0.5)
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers.tobytes())
