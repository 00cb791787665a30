import json
import math
from array import array
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from demo.voice_checkpoints import make_qwen3_tts, make_qwen3_tts_base
from engines.runner.qwen3_tts.prompt import UtteranceWriter
from engines.runner.qwen3_tts.tokens import TextTokens
from engines.types.audio import VOICE_RATE, UtteranceRequest
from engines.types.errors import CheckpointUnusable, ContextLengthExceeded, InvalidRequest


def samples(seconds: float, size: float = 0.1) -> bytes:
    return array("f", [size * math.sin(place / 9) for place in range(int(seconds * VOICE_RATE))]).tobytes()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("voices")
    make_qwen3_tts(root / "custom")
    make_qwen3_tts(root / "small", size="0b6")
    make_qwen3_tts_base(root / "base")
    return {name: root / name for name in ("custom", "small", "base")}


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("custom", {"voice": "nobody"}, "voice", "serena"),
    ("custom", {"language": "yue"}, "language", "zh, en"),
    ("custom", {"text": "  "}, "input", "nothing to speak"),
    ("custom", {"reference": samples(4)}, "reference_audio", "Base model"),
    ("custom", {"reference_text": "hello"}, "reference_audio", "Base model"),
    ("custom", {"max_seconds": math.nan}, "max_seconds", "above 0"),
    ("small", {"instructions": "Sadly."}, "instructions", "no instructions"),
    ("base", {}, "reference_audio", "stored voice"),
    ("base", {"voice": "vivian"}, "voice", "stored voice"),
    ("base", {"voice": "vivian", "reference": samples(4)}, "voice", "not both"),
    ("base", {"instructions": "Sadly.", "reference": samples(4)}, "instructions", "no instructions"),
    ("base", {"reference": samples(2.9)}, "reference_audio", "2.9 seconds long"),
    ("base", {"reference": samples(30.1)}, "reference_audio", "3 to 30 seconds"),
    ("base", {"reference": samples(4, 0.0)}, "reference_audio", "silent"),
    ("base", {"reference": samples(4)[:-4] + array("f", [math.nan]).tobytes()}, "reference_audio", "damaged"),
    ("base", {"reference": samples(4)[:-2]}, "reference_audio", "seconds"),
]


@pytest.mark.parametrize(("kind", "fields", "param", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_a_model_can_not_do_is_refused_by_name(
    folders: dict[str, Path], kind: str, fields: dict[str, Any], param: str, message: str
) -> None:
    writer = UtteranceWriter.read(folders[kind], 4096)
    with pytest.raises(InvalidRequest, match=message) as caught:
        writer.write(UtteranceRequest("tts", **{"text": "Hello.", **fields}))
    assert caught.value.param == param


def test_a_text_that_does_not_fit_is_refused_with_the_figures(folders: dict[str, Path]) -> None:
    writer = UtteranceWriter.read(folders["custom"], 100)
    with pytest.raises(ContextLengthExceeded, match="100 tokens.*75 are kept"):
        writer.write(UtteranceRequest("tts", "word " * 40, max_seconds=6.0))


def test_control_tokens_in_a_text_are_read_out_as_they_stand(folders: dict[str, Path]) -> None:
    tokens = TextTokens.read(folders["custom"])
    ids = tokens.plain("say <|im_end|> and <tts_text_eod>")
    known = Tokenizer.from_file(str(folders["custom"] / "tokenizer.json"))
    assert not {known.token_to_id("<|im_end|>"), known.token_to_id("<tts_text_eod>")} & set(ids)
    assert known.decode(list(ids)) == "say <|im_end|> and <tts_text_eod>"


def test_a_checkpoint_without_tokenizer_json_gives_the_same_tokens(folders: dict[str, Path], tmp_path: Path) -> None:
    whole = json.loads((folders["custom"] / "tokenizer.json").read_text(encoding="utf-8"))
    model = whole["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    added = {token["id"]: {"content": token["content"], "special": token["special"]} for token in whole["added_tokens"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}), encoding="utf-8")
    ours, theirs = TextTokens.read(tmp_path), TextTokens.read(folders["custom"])
    assert (ours.role, ours.instructions("Sadly.")) == (theirs.role, theirs.instructions("Sadly."))
    text = "It's 12月23日，你好！  Don't\n\nstop… <|im_end|> assistant"
    assert ours.plain(text) == theirs.plain(text)


def test_a_folder_without_a_tokenizer_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="merges.txt"):
        TextTokens.read(tmp_path)
