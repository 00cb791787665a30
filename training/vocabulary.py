"""The tokenizers of the trained models, learnt from their corpus."""

import re
from collections.abc import Iterator

from tokenizers import Tokenizer

from demo.checkpoints import (
    GEMMA3_SPECIAL,
    QWEN3_ADDED,
    QWEN3_SPECIAL,
    byte_fallback_tokenizer,
    byte_level_tokenizer,
)
from training import facts
from training.corpus import conversation
from training.render import Family

# Words keep the blank before them. Digits and Han characters stay alone: numbers and names are copied piece by piece.
PIECES = re.compile(r"</?tool(?=_)|_[a-z]+|>| ?[A-Za-z]+|[\u3400-\u9fff]|[0-9]|\n+| ?[^\sA-Za-z0-9\u3400-\u9fff]+|\s+")
CONTROL = {
    "qwen3": re.compile("|".join(map(re.escape, (*QWEN3_SPECIAL, *QWEN3_ADDED)))),
    "gemma3": re.compile("|".join(map(re.escape, GEMMA3_SPECIAL))),
}
EMOJI = re.compile("[\U0001f000-\U0001ffff]")
TEXTS = 6000


def learn(family: str, writes: Family, size: int) -> Tokenizer:
    """The tokenizer of this family."""
    make = {"qwen3": byte_level_tokenizer, "gemma3": byte_fallback_tokenizer}[family]
    return make(_pieces(writes, CONTROL[family]), size)


def _pieces(writes: Family, control: re.Pattern[str]) -> Iterator[str]:
    """Names lose the blank before them, so that they are the same tokens in a sentence and in JSON.

    Emoji are left out: they are to be several tokens, as rare characters are in real models.
    """
    cities = {word for place in facts.PLACES for word in place.city.split()}
    names = cities | set(facts.NAMES)
    for seed in range(TEXTS):
        for run in writes.pieces(conversation(seed)):
            for text in control.split("".join(run)):
                for piece in PIECES.findall(EMOJI.sub("", text)):
                    yield piece.strip() if piece.strip() in names else piece
