import json
import os
from pathlib import Path

import pytest

from engines.models.checkpoint import identity, inspect
from engines.types.errors import CheckpointUnusable
from tests.promises import promise

QWEN = {
    "model_type": "qwen3",
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_size": 512,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 4096,
}


def write(folder: Path, config: object = QWEN, template: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"} if template else {}))
    (folder / "model.safetensors").write_bytes(b"12345")
    return folder


def test_a_complete_chat_model_is_measured(tmp_path: Path) -> None:
    seen = inspect(write(tmp_path))
    assert (seen.architecture, seen.capability, seen.missing) == ("qwen3", "chat", ())
    assert (seen.weights_bytes, seen.context_length) == (5, 4096)
    assert (seen.kv_bytes_per_token, seen.kv_bytes_fixed) == (2 * 4 * 2 * 64 * 2, 0)


def test_float32_takes_four_bytes_and_the_head_size_is_derived(tmp_path: Path) -> None:
    config = {key: value for key, value in QWEN.items() if key not in ("head_dim", "torch_dtype")} | {
        "dtype": "float32"
    }
    assert inspect(write(tmp_path, config)).kv_bytes_per_token == 2 * 4 * 2 * 64 * 4


def test_the_windows_of_gemma_3_are_a_fixed_cost(tmp_path: Path) -> None:
    text = {"num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8, "sliding_window": 1024}
    seen = inspect(write(tmp_path, {"model_type": "gemma3", "text_config": text}))
    layer = 2 * 8 * 256 * 2
    assert (seen.kv_bytes_per_token, seen.kv_bytes_fixed) == (8 * layer, 40 * layer * 1024)
    assert seen.context_length == 131072


def test_a_template_in_its_own_file_counts(tmp_path: Path) -> None:
    write(tmp_path, template=False)
    assert inspect(tmp_path).missing == ("a chat template",)
    (tmp_path / "chat_template.jinja").write_text("x")
    assert inspect(tmp_path).missing == ()


ASR = {"text_config": {**QWEN, "max_position_embeddings": 65536}, "audio_config": {}}
LISTENS = {"model_type": "qwen3_asr", "thinker_config": {"model_type": "qwen3_asr", **ASR}}
ALIGNS = {"model_type": "qwen3_asr", "thinker_config": {"model_type": "qwen3_forced_aligner", **ASR}}
SPEAKS = {"model_type": "qwen3_tts", "talker_config": QWEN}
WHISPER = {"model_type": "whisper", "n_text_layer": 4, "n_text_state": 1280}


@pytest.mark.parametrize(
    ("config", "architecture", "capability"),
    [
        (LISTENS, "qwen3_asr", "transcription"),
        ({"model_type": "qwen3_asr", **ASR}, "qwen3_asr", "transcription"),
        (ALIGNS, "qwen3_forced_aligner", "alignment"),
        (SPEAKS, "qwen3_tts", "speech"),
        (WHISPER, "whisper", "transcription"),
    ],
)
def test_models_of_sound_are_known_by_their_configuration(
    tmp_path: Path, config: dict[str, object], architecture: str, capability: str
) -> None:
    seen = inspect(write(tmp_path, config, template=False))
    assert (seen.architecture, seen.capability) == (architecture, capability)
    if architecture == "whisper":
        assert (seen.kv_bytes_per_token, seen.kv_bytes_fixed) == (0, 4 * 1280 * 4 * 1948)
    else:
        assert seen.kv_bytes_per_token == 2 * 4 * 2 * 64 * 2 and seen.context_length >= 4096
    assert seen.kv_wish(32768) < 1 << 28


def whisper(ids: int, listens: int, writes: int, mlx: bool) -> dict[str, object]:
    """A configuration in MLX's words or in transformers'."""
    names = ("n_vocab", "n_audio_layer", "n_text_layer") if mlx else ("vocab_size", "encoder_layers", "decoder_layers")
    return {"model_type": "whisper", **dict(zip(names, (ids, listens, writes), strict=True))}


@promise("audio:translations:by-who-can")
@pytest.mark.parametrize("mlx", [True, False])
@pytest.mark.parametrize(
    ("ids", "listens", "writes", "translates"),
    [
        (51865, 4, 4, True),  # tiny
        (51865, 24, 24, True),  # medium
        (51865, 32, 32, True),  # large, large-v2
        (51866, 32, 32, True),  # large-v3
        (51866, 32, 4, False),  # large-v3-turbo
        (51865, 32, 2, False),  # distil-large-v2
        (51866, 32, 2, False),  # distil-large-v3
        (51864, 24, 24, False),  # medium.en
        (51864, 12, 4, False),  # distil-small.en
    ],
)
def test_whether_a_whisper_translates_is_known_by_its_size(
    tmp_path: Path, ids: int, listens: int, writes: int, translates: bool, mlx: bool
) -> None:
    folder = write(tmp_path, whisper(ids, listens, writes, mlx))
    assert inspect(folder).translates == translates
    tasks = {"transcribe": 50360, "translate": 50359}
    for taught, expected in ((tasks, translates), ({"transcribe": 50360}, False)):
        (folder / "generation_config.json").write_text(json.dumps({"task_to_id": taught}))
        assert inspect(folder).translates == expected


@promise("audio:translations:by-who-can")
def test_nothing_else_translates(tmp_path: Path) -> None:
    assert not inspect(write(tmp_path, LISTENS)).translates


def test_what_a_model_of_sound_lacks_is_named(tmp_path: Path) -> None:
    speaks = write(tmp_path / "speaks", SPEAKS)
    assert [name.split("/")[0] for name in inspect(speaks).missing] == [
        "speech_tokenizer",
        "weights of the codec (speech_tokenizer",
    ]
    (speaks / "speech_tokenizer").mkdir()
    (speaks / "speech_tokenizer/config.json").write_text("{}")
    (speaks / "speech_tokenizer/model.safetensors").write_bytes(b"123")
    assert inspect(speaks).missing == () and inspect(speaks).weights_bytes == 8


def test_whisper_needs_no_tokenizer_and_no_name_of_its_architecture(tmp_path: Path) -> None:
    own = {**WHISPER, "n_mels": 80, "n_audio_state": 1280, "n_vocab": 51865}
    whisper = write(tmp_path / "whisper", {name: value for name, value in own.items() if name != "model_type"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (whisper / name).unlink()
    assert inspect(whisper).architecture == "whisper" and inspect(whisper).missing == ()


def test_the_older_files_of_a_tokenizer_will_do(tmp_path: Path) -> None:
    folder = write(tmp_path, LISTENS)
    (folder / "tokenizer.json").unlink()
    assert inspect(folder).missing == ("tokenizer.json",)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text("{}")
    assert inspect(folder).missing == ()


@pytest.mark.parametrize("kind", ["paddleocr_vl", "bert"])
def test_other_kinds_of_models_have_no_capability(tmp_path: Path, kind: str) -> None:
    assert inspect(write(tmp_path, {"model_type": kind})).capability is None


def test_an_empty_folder_misses_everything(tmp_path: Path) -> None:
    missing = inspect(tmp_path).missing
    assert missing == ("config.json", "tokenizer.json", "tokenizer_config.json", "weights (model*.safetensors)")


def test_every_shard_that_is_not_whole_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    names = [f"model-{number:05}-of-00004.safetensors" for number in range(1, 5)]
    index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / names[0]).write_bytes(b"1234")
    (tmp_path / names[1]).write_bytes(b"")
    (tmp_path / names[2]).symlink_to(tmp_path / "nowhere")
    (tmp_path / "blob.incomplete").write_bytes(b"12")
    (tmp_path / names[3]).symlink_to(tmp_path / "blob.incomplete")
    seen = inspect(tmp_path)
    assert seen.missing == tuple(names[1:])
    assert seen.weights_bytes == 4


def test_linked_weights_are_measured_where_they_lie(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    (tmp_path / "blob").write_bytes(b"1234567")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert inspect(folder).weights_bytes == 7


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_damaged_json_is_named(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path)
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointUnusable, match=name):
        inspect(tmp_path)


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="num_hidden_layers"):
        inspect(write(tmp_path, QWEN | {"num_hidden_layers": "4"}))


def test_a_models_identity_is_its_own_and_another_once_a_file_has_changed(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    before = identity(one)
    assert identity(one) == before != identity(other)
    os.utime(one / "model.safetensors", ns=(0, 2 * 10**18))
    assert identity(one) != before


def test_a_model_has_an_identity_whatever_bytes_its_path_holds(tmp_path: Path) -> None:
    assert identity(tmp_path / os.fsdecode(b"bad\xff")) != identity(tmp_path / os.fsdecode(b"bad\xfe"))
