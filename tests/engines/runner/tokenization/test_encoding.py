"""Texts encoded in pieces give what the whole gives, and what can't fit is known before it is encoded."""

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from demo.checkpoints import make_gemma3, make_qwen3
from engines.runner.patience import Abandoned, Patience
from engines.runner.tokenization import encoding
from engines.runner.tokenization.encoding import TextEncoder, TooManyTokens
from tests.promises import promise

WORDS = (
    "the weather in Hong Kong is fine today , don't you think?\n\n  def f(x):\n\treturn x+1\n "
    "香港今日天氣好好，你知唔知？ "
    "Überraschung naïve e\u0301 12345 67 <|im_end|> <end_of_turn> 👨‍👩‍👧 ...!!! \r\n\u3000ok ▁▁ it's we'll I'D"
).split(" ")
TEXTS = ["a", "The quick brown fox. ", *WORDS] * 20


def _llama2() -> Tokenizer:
    """SentencePiece's kind, as Llama 2 has it: a blank before every text, no cutting into words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        [text.replace(" ", " ") for text in TEXTS] + [" ".join(WORDS)] * 4,
        trainers.BpeTrainer(vocab_size=900, special_tokens=tokens, show_progress=False),
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _gpt2() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


KINDS = {"qwen3": make_qwen3, "gemma3": make_gemma3}


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "llama2", "gpt2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param in KINDS:
        folder = tmp_path_factory.mktemp(request.param)
        KINDS[request.param](folder)
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    return _llama2() if request.param == "llama2" else _gpt2()


def words(seed: int, count: int) -> str:
    chosen = random.Random(seed)
    return "".join(chosen.choice(WORDS) + chosen.choice([" ", " ", " ", "", "\n", "   ", ", "]) for _ in range(count))


@promise("chat:length:pieces")
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 30), piece=st.integers(8, 400))
def test_pieces_give_what_the_whole_gives(tokenizer: Tokenizer, seed: int, piece: int) -> None:
    text = words(seed, 400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "PIECE", piece)
        got = TextEncoder(tokenizer).ids(text)
        assert len(list(TextEncoder(tokenizer)._pieces(text))) > 1
    assert got == tokenizer.encode(text, add_special_tokens=False).ids


@promise("chat:length:pieces")
@pytest.mark.parametrize(
    "text", ["", "a", "a" * 100_000, "，" * 70_000, " " * 100_000, "ab \n" * 20_000, words(1, 15_000)]
)
def test_long_texts_of_any_kind_are_encoded_as_they_are(tokenizer: Tokenizer, text: str) -> None:
    assert TextEncoder(tokenizer).ids(text) == tokenizer.encode(text, add_special_tokens=False).ids
    assert TextEncoder(tokenizer).ids(text, special=True) == tokenizer.encode(text, add_special_tokens=True).ids


@promise("chat:length:refused")
@settings(max_examples=50, deadline=None)
@given(text=st.one_of(st.text(max_size=200), st.integers(0, 1 << 30).map(lambda seed: words(seed, 30))))
def test_no_text_has_fewer_tokens_than_it_has_at_least(tokenizer: Tokenizer, text: str) -> None:
    assert TextEncoder(tokenizer).fewest([text], 10**9) <= len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_what_a_long_text_has_at_least_is_a_good_part_of_what_it_has(tokenizer: Tokenizer) -> None:
    text = words(3, 5_000).replace("e\u0301", "e")
    tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    assert tokens / 40 < TextEncoder(tokenizer).fewest([text], 10**9)


def test_a_vocabulary_in_which_a_byte_is_missing_tells_nothing() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>", fuse_unk=True))
    assert TextEncoder(tokenizer).fewest(["z" * 1000], 10) == 0


@promise("chat:length:refused")
def test_encoding_ends_where_there_are_too_many_tokens(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PIECE", 1024)
    with pytest.raises(TooManyTokens) as caught:
        TextEncoder(tokenizer).ids(words(1, 20_000), most=500)
    assert 500 < caught.value.at_least < 5_000


def test_encoding_ends_when_its_client_has_left(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PIECE", 1024)
    with pytest.raises(Abandoned):
        TextEncoder(tokenizer).ids(words(1, 2_000), patience=Patience(lambda: False))


def test_a_text_behind_another_has_no_blank_that_it_was_not_given() -> None:
    llama = TextEncoder(_llama2())
    assert llama.behind("a") != llama.ids("a")
    assert llama.ids("xa") == llama.ids("x") + llama.behind("a") or "xa" in _llama2().get_vocab()


@promise("chat:length:pieces")
def test_other_threads_run_while_a_long_text_is_encoded(tokenizer: Tokenizer) -> None:
    text = words(5, 50_000)
    done = threading.Event()
    encoder = TextEncoder(tokenizer)

    def work() -> None:
        encoder.ids(text)
        done.set()

    threading.Thread(target=work).start()
    passes = 0
    while not done.is_set():
        time.sleep(0)
        passes += 1
    assert passes > 100
