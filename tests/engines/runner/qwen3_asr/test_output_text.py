import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from demo.speech_checkpoints import LANGUAGES, SPOKEN, speech_tokenizer
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.sampling.sampler import Choice
from engines.runner.qwen3_asr.output_markup import LONGEST_NAME, TEXT
from engines.runner.qwen3_asr.output_text import LanguageReader, PieceAnswer, PieceReading
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.audio import PieceDone, PieceText, Segment
from engines.types.chat import Sampling
from engines.types.common import Timings, Usage
from tests.promises import promise

# What the model wrote, whether it was cut, and what of it is its language and its text.
CASES = {
    "a language and its text": ("language English<asr_text>left right", False, "English", "left right"),
    "two languages": ("language Chinese,English<asr_text>好 ok", False, "Chinese,English", "好 ok"),
    "a name of several words": ("language Haitian Creole<asr_text>bonjou", False, "Haitian Creole", "bonjou"),
    "no speech": ("language None<asr_text>", False, "None", ""),
    "no speech and no mark": ("language None", False, "None", ""),
    "a language and no mark": ("language Cantonese", False, "Cantonese", ""),
    "cut in the name": ("language Canto", True, "Canto", ""),
    "text alone": ("left right", False, "", "left right"),
    "text that begins alike": ("language lessons are fun, said she", False, "", "language lessons are fun, said she"),
    "half the word": ("langu", False, "", "langu"),
    "a second mark": ("language English<asr_text>one<asr_text> two", False, "English", "one two"),
    "half a mark in the text": ("language English<asr_text>a <asr_te", False, "English", "a "),
    "less than half": ("language English<asr_text>3 <", False, "English", "3 <"),
    "no speech, and words for it": ("language None<asr_text>None", False, "None", ""),
    "no speech in small letters": ("language none<asr_text>None None", False, "none", ""),
    "no speech, then some": ("language None<asr_text>None language English<asr_text>one", False, "English", "one"),
    "some speech, then none": ("language English<asr_text>one language None<asr_text>None", False, "English", "one "),
    "the language changes": ("language Chinese<asr_text>好language Cantonese<asr_text>係", False, "Chinese", "好係"),
    "broken off where it changes": ("language Chinese<asr_text>好 language Cantonese<asr", False, "Chinese", "好 "),
    "cut where it changes": ("language Chinese<asr_text>好 language Cantonese<", True, "Chinese", "好 "),
    "control tokens spelled out": ("language English<asr_text>one<|im_end|> two<|0.00|>", False, "English", "one two"),
    "one broken off": ("language English<asr_text>one <|im_e", True, "English", "one "),
    "marks within marks": (
        "language English<asr_text>a<asr_<asr_text>text>b<|<|x|>x|>c",
        False,
        "English",
        "atext>bx|>c",
    ),
    "the spoken word": (
        "language English<asr_text>my language is none of these",
        False,
        "English",
        "my language is none of these",
    ),
    "the spoken word at the end": ("language English<asr_text>in his language", False, "English", "in his language"),
    "the spoken word alone": ("language English<asr_text>language", False, "English", "language"),
    "spoken words that look like it": (
        "language English<asr_text>the language English",
        False,
        "English",
        "the language English",
    ),
    "nobody, again and again": (" None None None", False, "None", ""),
    "nobody, and cut": ("None None None", True, "None", ""),
    "nobody, without the word": (" None<asr_text>", False, "None", ""),
    "a language without the word": ("Cantonese<asr_text>係", False, "Cantonese", "係"),
    "nobody, then somebody": (" None None language English<asr_text>one", False, "English", "one"),
    "somebody says so": ("language English<asr_text>None", False, "English", "None"),
    "none of it": ("None of it", False, "", "None of it"),
    "what begins like a name": ("Thai food", False, "", "Thai food"),
    "a mark behind text": ("left<asr_text> right", False, "", "left right"),
    "none": ("language English<asr_text>None.", False, "English", "None."),
    "a sign in the name": ("language <b>English<asr_text>one", False, "", "language <b>Englishone"),
    "nothing": ("", False, "", ""),
}


def splits(text: str) -> Iterator[list[str]]:
    """In one piece, by characters, and in two pieces at every place."""
    yield [text]
    yield list(text)
    for place in range(len(text) + 1):
        yield [text[:place], text[place:]]


def read(reader: LanguageReader, pieces: list[str], cut: bool) -> str:
    shown = [delta.text for piece in pieces for delta in reader.feed(piece)]
    return "".join([*shown, *(delta.text for delta in reader.finish(cut=cut).deltas)])


@pytest.mark.parametrize(("text", "cut", "name", "said"), CASES.values(), ids=CASES)
def test_language_and_text_are_told_apart_however_the_answer_is_cut(text: str, cut: bool, name: str, said: str) -> None:
    for pieces in splits(text):
        reader = LanguageReader(begun=False)
        assert read(reader, pieces, cut) == said, pieces
        assert reader.name == name, pieces


@given(st.text(alphabet="language English<asr_text>None x", max_size=80), st.data())
def test_how_any_text_is_cut_never_matters(text: str, data: st.DataObject) -> None:
    whole = LanguageReader(begun=False)
    expected = read(whole, [text], cut=False)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    reader = LanguageReader(begun=False)
    assert read(reader, pieces, cut=False) == expected
    assert reader.name == whole.name


WORDS = [
    "language ",
    "English",
    "None",
    "<asr_text>",
    "<|im_end|>",
    "<|",
    "|>",
    "<",
    "asr_",
    "text>",
    " ",
    "好",
    "Klingon",
]


@promise("audio:markup")
@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join), st.booleans(), st.booleans(), st.data())
def test_no_mark_is_ever_shown_however_an_answer_is_cut(text: str, begun: bool, cut: bool, data: st.DataObject) -> None:
    expected = read(LanguageReader(begun), [text], cut)
    assert "<asr_" not in expected and not re.search(r"<\|[^|<>\s]+\|>", expected)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    assert read(LanguageReader(begun), pieces, cut) == expected


# What is written behind a language that stood in the prompt, and what of it is text.
PROMPTED = {
    "text": ("left right", "left right"),
    "text that begins like a header": ("language English is spoken", "language English is spoken"),
    "the header again": ("language Cantonese<asr_text>係", "係"),
    "the header again without its mark": ("language Cantonese", ""),
    "nobody": ("language None<asr_text>None", ""),
    "nobody, without a mark": ("language None", ""),
    "nobody, without the word": (" None<asr_text>", ""),
    "it may be spoken": (" None None", " None None"),
    "cut within what may be a name": ("language lessons", "language lessons"),
}


@pytest.mark.parametrize(("text", "said"), PROMPTED.values(), ids=PROMPTED)
@pytest.mark.parametrize("cut", [False, True])
def test_where_the_prompt_held_the_language_a_header_is_still_none_of_the_text(text: str, said: str, cut: bool) -> None:
    for pieces in splits(text):
        assert read(LanguageReader(begun=True), pieces, cut) == said, pieces


def test_an_answer_says_whether_nobody_speaks(tokenizer: Tokenizer) -> None:
    for text, language in (
        ("language None<asr_text>", ""),
        ("language None<asr_text>zero", ""),
        ("language None", "en"),
    ):
        shown, done = answered(tokenizer, text, language)
        assert not shown and not done.segments and done.no_speech
    for text in ("language English<asr_text>", "language Klingon<asr_text>", "zero", ""):
        assert not answered(tokenizer, text)[1].no_speech


def test_text_is_shown_as_soon_as_it_can_be_no_language() -> None:
    reader = LanguageReader(begun=False)
    assert not reader.feed("language " + "x" * LONGEST_NAME)
    assert reader.feed("x")


# -- from tokens to the last event ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return speech_tokenizer(SPOKEN, LANGUAGES)


def answered(
    tokenizer: Tokenizer, text: str, language: str = "", full: bool = False, beginning: str = ""
) -> tuple[list[PieceText], PieceDone]:
    """What is shown of an answer whose every token has the logprob -1, or -9 before its text; and its last event."""
    table = TokenTable.from_tokenizer_json(json.loads(tokenizer.to_str()), shown={TEXT})
    reading = PieceReading(2.0, language, beginning)
    answer = PieceAnswer(Prompt((1, 2, 3), 50, Sampling(0.0, logprobs=0), reply=reading), table)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    mark, end = (tokenizer.encode(token, add_special_tokens=False).ids[0] for token in ("<asr_text>", "<|im_end|>"))
    begins = ids.index(mark) if mark in ids else -1
    deltas: list[PieceText | None] = []
    reason = None
    for place, id in enumerate(ids):
        reason = answer.accept(Choice(id, -9.0 if place <= begins else -1.0), False, full and place == len(ids) - 1)
        deltas.append(answer.take())
    if reason is None:
        reason = answer.accept(Choice(end, -1.0), True, False)
        deltas.append(answer.take())
    assert reason is not None
    done = answer.done(reason, Usage(3, len(ids)), Timings(0.0, 0.0, 0.0))
    assert isinstance(done, PieceDone)
    assert not any(delta.logprobs for delta in deltas if delta is not None)
    return [delta for delta in deltas if delta is not None], done


def texts(shown: list[PieceText]) -> list[str]:
    return [delta.text for delta in shown]


def test_text_is_streamed_and_told_as_one_segment_with_the_code_of_what_was_heard(tokenizer: Tokenizer) -> None:
    shown, done = answered(tokenizer, "language Cantonese<asr_text>left right 好")
    assert texts(shown) == ["left", " right", " ", "好"]
    assert {delta.language for delta in shown} == {"yue"}
    assert done.segments == (Segment(0.0, 2.0, "left right 好", approximate=True, avg_logprob=-1.0),)
    assert (done.language, done.finish_reason) == ("yue", "stop")


@pytest.mark.parametrize("text", ["language None<asr_text>", "language None", "language English<asr_text> "])
def test_without_speech_there_is_no_segment(tokenizer: Tokenizer, text: str) -> None:
    shown, done = answered(tokenizer, text)
    assert not "".join(texts(shown)).strip() and done.segments == ()
    assert done.language == ("en" if "English" in text else "")


def test_a_language_that_was_asked_for_is_told_as_it_was_asked_for(tokenizer: Tokenizer) -> None:
    shown, done = answered(tokenizer, "zero one", language="zh")
    assert shown == [PieceText("zero", language="zh"), PieceText(" one", language="zh")] and done.language == "zh"


@pytest.mark.parametrize(("language", "more"), [("en", [" one", " two"]), ("", [" one", " two"]), ("yue", [])])
def test_behind_a_beginning_all_is_text_and_the_segment_has_both(
    tokenizer: Tokenizer, language: str, more: list[str]
) -> None:
    shown, done = answered(tokenizer, "".join(more), language, beginning=" zero")
    assert texts(shown) == more and done.language == language
    expected = Segment(0.0, 2.0, "".join([" zero", *more]), approximate=True, avg_logprob=-1.0)
    assert done.segments == (expected,) and done.finish_reason == "stop"


def test_a_language_that_nobody_knows_is_told_as_none(tokenizer: Tokenizer) -> None:
    shown, done = answered(tokenizer, "language Klingon<asr_text>one")
    assert texts(shown) == ["one"] and done.language == "" and done.segments


def test_control_tokens_are_not_shown_and_a_cut_text_is_told(tokenizer: Tokenizer) -> None:
    shown, done = answered(tokenizer, "one<|audio_pad|><|im_start|> two", language="en", full=True)
    assert "".join(texts(shown)) == "one two" and done.finish_reason == "length"


def test_a_mark_that_the_tokenizer_calls_special_still_ends_the_language() -> None:
    data = json.loads(speech_tokenizer(SPOKEN, LANGUAGES).to_str())
    for token in data["added_tokens"]:
        token["special"] = True
    table = TokenTable.from_tokenizer_json(data, shown={TEXT})
    texts_of = {table.bytes_of(token["id"]).decode() for token in data["added_tokens"]}
    assert texts_of == {TEXT, ""}
