from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from demo.checkpoints import make_gemma3, make_qwen3
from engines.runner.generation.stop_strings import StopMatcher
from engines.runner.tokenization.detokenize import Detokenizer, TokenTable
from engines.types.errors import CheckpointUnusable
from tests.promises import promise

MIXED = " leading space, 你好嘅𨋢 👩‍👩‍👧 مرحبا\n\n  naïve 🙂."


@pytest.mark.parametrize("make", [make_qwen3, make_gemma3])
def test_texts_of_single_tokens_join_to_the_whole(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    detokenizer = Detokenizer(TokenTable.read(tmp_path))
    ids = tokenizer.encode(MIXED, add_special_tokens=False).ids
    pieces = [detokenizer.feed(id) for id in ids]
    assert "".join(pieces) + detokenizer.flush() == MIXED == tokenizer.decode(ids, skip_special_tokens=False)
    assert not any("\ufffd" in piece for piece in pieces)


def test_an_unfinished_character_is_told_at_the_end() -> None:
    detokenizer = Detokenizer(TokenTable([b"a", b"\xf0\x9f"]))
    assert (detokenizer.feed(0), detokenizer.feed(1), detokenizer.flush()) == ("a", "", "\ufffd")


def test_ids_beyond_the_tokenizer_are_not_valid_and_have_no_text() -> None:
    table = TokenTable.from_tokenizer_json(
        {"model": {"vocab": {"a": 0, "b": 2}}, "decoder": {"type": "ByteLevel"}, "added_tokens": []}
    )
    assert (table.size, table.valid, table.bytes_of(1), table.bytes_of(9)) == (3, [True, False, True], b"", b"")


@promise("chat:stop:hidden")
@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_a_stop_string_is_never_shown_whatever_the_split(text: str, stops: list[str], data: st.DataObject) -> None:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    matcher = StopMatcher(tuple(stops))
    shown, rest, stopped = "", text, False
    while rest and not stopped:
        size = data.draw(st.integers(1, len(rest)))
        piece, stopped = matcher.feed(rest[:size])
        shown, rest = shown + piece, rest[size:]
    shown += "" if stopped else matcher.flush()
    first = min(text.find(stop) + len(stop) for stop in stops if stop in text) if places else None
    if first is None:
        assert (shown, stopped) == (text, False)
    else:
        assert stopped and text.startswith(shown)
        assert not any(stop in shown for stop in stops)


def test_a_vocabulary_of_a_foreign_kind_and_a_folder_without_tokenizer_are_unusable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="vocabulary"):
        TokenTable.from_tokenizer_json({"model": {"vocab": "a"}, "decoder": {"type": "ByteLevel"}})
    with pytest.raises(CheckpointUnusable, match=r"tokenizer\.json"):
        TokenTable.read(tmp_path)


def test_a_control_token_outside_the_byte_alphabet_is_its_own_text() -> None:
    table = TokenTable.from_tokenizer_json({"model": {"vocab": {"<｜x｜>": 0}}, "decoder": {"type": "ByteLevel"}})
    assert table.bytes_of(0).decode() == "<｜x｜>"
