"""What a recording becomes to be learnt from: frames partly hidden, a prompt as serving writes it, the answer."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from demo.training.speech import phrases
from demo.training.speech.corpus import Utterance, read
from demo.training.speech.forward import Heard, positions, prepare

PREFIX_WEIGHT = 0.4  # of the language, which is soon known, beside a word
CONTEXTS, RIGHT_CONTEXTS = 0.15, 0.5
HIDDEN = 0.4
MOST_HIDDEN_BINS, MOST_HIDDEN_FRAMES = 9, 7


class Recording(NamedTuple):
    utterance: Utterance
    features: npt.NDArray[np.float16]


class Batch(NamedTuple):
    """`sources` (rows, tokens): which of all rows' audio positions stands there, -1 for none. `places` of all tokens
    are followed by `targets`. `labels`: classes of the words of each row."""

    heard: Heard
    ids: mx.array
    sources: mx.array
    places: mx.array
    targets: mx.array
    weights: mx.array
    labels: list[list[int]]


@dataclass
class Writer:
    """Prompts and answers as tokens."""

    tokenizer: Tokenizer
    classes: dict[tuple[str, str], int] = field(init=False)

    def __post_init__(self) -> None:
        every = [(language.name, word) for language in phrases.LANGUAGES for word in language.words]
        self.classes = {one: number for number, one in enumerate(every, start=1)}

    def labels(self, utterance: Utterance) -> list[int]:
        return [self.classes[utterance.language, word] for word in utterance.words]

    def prompt(self, context: str, audio: int) -> list[int]:
        """As the library writes it."""
        system = f"{context}\n" if context else ""
        return self.tokenizer.encode(
            f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<|audio_start|>{'<|audio_pad|>' * audio}"
            "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"
        ).ids

    def answer(self, utterance: Utterance, words: list[str]) -> tuple[list[int], list[int]]:
        """The language and what follows it."""
        language = self.tokenizer.encode(f"language {utterance.language}<asr_text>").ids
        blank = phrases.NAMED[utterance.language].blank if words else ""
        text = [self._word(word if place == 0 else blank + word) for place, word in enumerate(words)]
        return language, text + self.tokenizer.encode("<|im_end|>").ids

    def _word(self, text: str) -> int:
        (only,) = self.tokenizer.encode(text).ids
        return only


def context(draw: random.Random, utterance: Utterance) -> tuple[str, list[str]]:
    """Terms that may come up, seldom given, and the words as they are spelled then."""
    if utterance.language == phrases.NOTHING:
        return "", []
    spelled = list(utterance.words)
    names = set(phrases.SPELLINGS) & set(spelled)
    if draw.random() > (0.7 if names else CONTEXTS):
        return "", spelled
    language = phrases.NAMED[utterance.language]
    terms = phrases.any_words(draw, language, draw.randint(1, 4))
    if draw.random() < RIGHT_CONTEXTS:
        terms.append(draw.choice(spelled))
    terms = [term for term in terms if term not in phrases.SPELLINGS]
    if draw.random() < 0.65 and (names or draw.random() < 0.1) and language is phrases.ENGLISH:
        terms.append(draw.choice(list(phrases.SPELLINGS.values())))
    draw.shuffle(terms)
    return ", ".join(terms), [
        phrases.SPELLINGS[word] if phrases.SPELLINGS.get(word) in terms else word for word in spelled
    ]


def hide(draw: np.random.Generator, features: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Some of the bins and frames, so that no detail alone is relied on."""
    made = features.astype(np.float32)
    if draw.random() > HIDDEN:
        return made
    made += draw.uniform(-0.15, 0.15)
    level = made.mean()
    for _ in range(draw.integers(0, 3)):
        start = draw.integers(0, made.shape[1])
        made[:, start : start + draw.integers(1, MOST_HIDDEN_BINS)] = level
    for _ in range(1 + len(made) // 150):
        start = draw.integers(0, len(made))
        made[start : start + draw.integers(1, MOST_HIDDEN_FRAMES)] = level
    return made


def batch(writer: Writer, group: list[Recording], seed: int) -> Batch:
    """Padded on the right: nothing real sees the padding."""
    draw, generator = random.Random(seed), np.random.default_rng(seed)
    heard = prepare([hide(generator, one.features) for one in group])
    rows: list[tuple[list[int], int]] = []
    places, targets, weights = [], [], []
    pad = writer.tokenizer.token_to_id("<|audio_pad|>")
    contexts = [context(draw, one.utterance) for one in group]
    for one, (given, words), audio in zip(group, contexts, heard.lengths, strict=True):
        prompt = writer.prompt(given, int(audio))
        language, text = writer.answer(one.utterance, words)
        rows.append((prompt + language + text, len(prompt)))
        targets += language + text
        weights += [PREFIX_WEIGHT] * len(language) + [1.0] * len(text)
    length = max(len(ids) for ids, _ in rows) - 1
    every = np.full((len(rows), length), writer.tokenizer.token_to_id("<|endoftext|>"), np.int32)
    for row, (ids, start) in enumerate(rows):
        every[row, : len(ids) - 1] = ids[:-1]
        places += [row * length + place - 1 for place in range(start, len(ids))]
    sources = np.full(every.shape, -1, np.int32)
    for row, audio in enumerate(heard.lengths):
        sources[row, every[row] == pad] = row * heard.places.shape[1] + np.arange(audio)
    return Batch(
        heard,
        mx.array(every),
        mx.array(sources),
        mx.array(places),
        mx.array(targets),
        mx.array(weights),
        [writer.labels(one.utterance) for one in group],
    )


def tokens(one: Recording) -> int:
    """About how many a recording costs."""
    return positions(len(one.features)) + 20 + len(one.utterance.words)


def groups(pool: list[Recording], most: int, draw: random.Random) -> Iterator[list[Recording]]:
    """Recordings of about one length, with at most so many tokens, in any order."""
    made: list[list[Recording]] = []
    group: list[Recording] = []
    for one in sorted(pool, key=tokens):
        if group and (len(group) + 1) * tokens(one) > most:
            made.append(group)
            group = []
        group.append(one)
    made.append(group)
    draw.shuffle(made)
    return iter(made)


def joined(several: list[Recording]) -> Recording:
    """One after another: those in the language of the first, as long as there are not more than three."""
    language = several[0].utterance.language
    same = [one for one in several if one.utterance.language == language][:3]
    features = np.concatenate([one.features for one in same])
    return Recording(Utterance(language, [word for one in same for word in one.utterance.words]), features)


def recordings(folder: Path) -> list[Recording]:
    """Of the corpus in `folder`, by mapped memory."""
    return [Recording(utterance, features) for utterance, features in read(folder, "training")]


def with_words(pool: Iterable[Recording], fewest: int, most: int) -> list[Recording]:
    return [one for one in pool if fewest <= len(one.utterance.words) <= most]
