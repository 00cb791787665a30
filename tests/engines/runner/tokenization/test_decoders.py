"""Every decoder of the `tokenizers` library, a token at a time, against the library's own work on all of them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engines.runner.tokenization.detokenize import Detokenizer, TokenTable
from engines.types.errors import CheckpointUnusable
from tests.promises import promise

WORDS = ["▁", "▁a", "▁▁b", "a", "b", " ", "  x ", ".", " .", "##ing", "##", "un", "n't", "</w>", "a</w>", "b</w>c", "|"]
WORDS += [
    "<pad>",
    "<unk>",
    "Ġ",
    "Ġhi",
    "ä½ł",
    "ä",
    "½",
    "ł",
    "好",
    "嘅",
    "🙂",
    "\n",
    "<0xzz>",
    "<0xE4>x",
    "ab",
    "aab",
    "\ufffd",
]
BYTES = [f"<0x{byte:02X}>" for byte in (*range(0x20, 0x30), *"你好🙂é".encode(), 0xFF, 0x80)]
VOCABULARY = list(dict.fromkeys([*WORDS, *BYTES]))

REPLACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
REGEX = {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}
PAIR = {"type": "Replace", "pattern": {"String": "ab"}, "content": "<>"}
BYTE_FALLBACK, FUSE, BYTE_LEVEL = (
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    },
)
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
STRIPS = {"type": "Strip", "content": " ", "start": 2, "stop": 1}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
WORD_PIECE = {"type": "WordPiece", "prefix": "##", "cleanup": True}
CTC = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
BPE = {"type": "BPEDecoder", "suffix": "</w>"}


def sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "decoders": list(parts)}


DECODERS: dict[str, dict[str, Any] | None] = {
    "Llama 2": sequence(REPLACE, BYTE_FALLBACK, FUSE, STRIP),
    "Gemma": sequence(REPLACE, BYTE_FALLBACK, FUSE),
    "none": None,
    "ByteLevel": BYTE_LEVEL,
    "ByteLevel, fused": sequence(BYTE_LEVEL, FUSE),
    "Metaspace": METASPACE,
    "Metaspace that keeps the first": {**METASPACE, "prepend_scheme": "never"},
    "ByteFallback before Metaspace": sequence(BYTE_FALLBACK, METASPACE),
    "WordPiece": WORD_PIECE,
    "WordPiece as it is": {**WORD_PIECE, "cleanup": False},
    "BPEDecoder": BPE,
    "CTC": CTC,
    "CTC that is stripped": sequence(CTC, FUSE, STRIPS),
    "ByteFallback": BYTE_FALLBACK,
    "Fuse": FUSE,
    "Replace": REPLACE,
    "Strip": STRIP,
    "Strip behind": sequence(FUSE, STRIPS),
    "Replace in the whole": sequence(FUSE, PAIR),
    "a regular expression": sequence(REGEX, FUSE),
    "a regular expression in the whole": sequence(FUSE, REGEX),
    "WordPiece in the whole": sequence(FUSE, WORD_PIECE),
    "nested": sequence(sequence(REPLACE, BYTE_FALLBACK), sequence(FUSE, STRIP)),
    "bytes, then stripped": sequence(BYTE_LEVEL, STRIP),
}


def made(decoder: dict[str, Any] | None) -> dict[str, Any]:
    added = [{"id": len(VOCABULARY), "content": "<|end|>", "special": True}]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [{**token, **flags} for token in added],
        "decoder": decoder,
        "model": {
            "type": "WordLevel",
            "vocab": {token: id for id, token in enumerate(VOCABULARY)},
            "unk_token": "<unk>",
        },
    }


ALL = {name: made(decoder) for name, decoder in DECODERS.items()}
LIBRARY = {name: Tokenizer.from_str(json.dumps(data)) for name, data in ALL.items()}
TABLES = {name: TokenTable.from_tokenizer_json(data) for name, data in ALL.items()}


def streamed(name: str, ids: list[int], continues: bool = False) -> list[str]:
    detokenizer = Detokenizer(TABLES[name], continues)
    return [*(detokenizer.feed(id) for id in ids), detokenizer.flush()]


@promise("checkpoints:decoders")
@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_is_streamed_is_what_the_library_makes_of_all_tokens(name: str, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, len(VOCABULARY)), min_size=1, max_size=40))
    if name in ("Strip behind", "CTC that is stripped"):
        ids = [VOCABULARY.index("a"), *ids]  # the library panics where a text is shorter than what is stripped
    assert "".join(streamed(name, ids)) == LIBRARY[name].decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", ["Llama 2", "Gemma", "ByteFallback", "ByteFallback before Metaspace"])
@given(text=st.text("a你好🙂é ", max_size=40))
def test_characters_of_bytes_come_whole(name: str, text: str) -> None:
    known = set(VOCABULARY)
    ids = [VOCABULARY.index(f"<0x{byte:02X}>") for byte in text.encode() if f"<0x{byte:02X}>" in known]
    assert not any("\ufffd" in piece for piece in streamed(name, ids))


def test_a_long_run_of_bytes_does_not_hold_up_a_stream() -> None:
    ids = [VOCABULARY.index(f"<0x{byte:02X}>") for byte in ("你好" * 40).encode()]
    pieces = streamed("Llama 2", ids)
    assert "".join(pieces) == "你好" * 40
    assert next(place for place, piece in enumerate(pieces) if piece) < 70


def test_where_no_rule_is_known_what_no_longer_changes_comes_before_the_end() -> None:
    ids = [VOCABULARY.index("ab")] * 100
    pieces = streamed("a regular expression in the whole", ids)
    assert "".join(pieces) == "ab" * 100 and len("".join(pieces[:-1])) > 100


@pytest.mark.parametrize(("name", "text"), [("Llama 2", " a"), ("Metaspace", " a"), ("WordPiece", " un")])
def test_a_text_that_goes_on_keeps_its_first_blank(name: str, text: str) -> None:
    ids = [VOCABULARY.index("▁a" if text == " a" else "un")]
    assert "".join(streamed(name, ids, continues=True)) == text
    assert "".join(streamed(name, ids)) == text.strip()


def test_a_token_has_bytes_of_its_own() -> None:
    table = TABLES["Llama 2"]
    assert table.bytes_of(VOCABULARY.index("<0xFF>")) == b"\xff"
    assert table.bytes_of(VOCABULARY.index("▁a")) == b" a"
    assert TABLES["BPEDecoder"].bytes_of(VOCABULARY.index("a</w>")) == b"a "
    assert TABLES["WordPiece"].bytes_of(VOCABULARY.index("##ing")) == b"ing"


def test_a_unigram_vocabulary_is_a_list() -> None:
    table = TokenTable.from_tokenizer_json(
        {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁a", -1.0]]}, "decoder": METASPACE}
    )
    assert table.size == 2 and "".join([Detokenizer(table).feed(1)]) == "a"


def test_a_decoder_that_nobody_knows_is_refused_by_its_name() -> None:
    with pytest.raises(CheckpointUnusable, match="Riddle"):
        TokenTable.from_tokenizer_json({"model": {"vocab": {"a": 0}}, "decoder": {"type": "Riddle"}})
