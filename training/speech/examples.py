"""What a recording becomes to be learnt from: frames partly hidden, a prompt as serving writes it, the answer."""

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.speech import phrases
from training.speech.forward import CHUNK, POSITIONS, positions
from training.speech.shards import CorpusUtterance

PREFIX_WEIGHT = 0.4  # of the language, which is soon known, beside a word
CONTEXTS, RIGHT_CONTEXTS = 0.15, 0.5
HIDDEN = 0.5
MOST_HIDDEN_BINS, MOST_HIDDEN_FRAMES = 9, 7
UNKNOWN = -1

Numbers = npt.NDArray[np.int32]
Array = Any  # NumPy's where it is made, MLX's where it is learnt from


class RecordedUtterance(NamedTuple):
    utterance: CorpusUtterance
    features: npt.NDArray[np.float16]


class SoundBatch(NamedTuple):
    """`frames` (rows, frames, bins), zero beyond `sizes` (rows,). What is hidden: frames (rows, frames) and bins
    (rows, bins). `lift` (rows, bins) is added."""

    frames: Array
    sizes: Array
    hidden_frames: Array
    hidden_bins: Array
    lift: Array


class AsrBatch(NamedTuple):
    """`sources` (rows, tokens): which position of the row's audio stands there, -1 for none. `places` (rows, answers):
    the tokens that `targets` follow, which count `weights`. `classes` (rows, positions): of the word that is heard
    there, 0 for none, -1 beyond the end."""

    sound: SoundBatch
    lengths: Array
    ids: Array
    sources: Array
    places: Array
    targets: Array
    weights: Array
    classes: Array


@dataclass
class AsrWriter:
    """Prompts and answers as tokens."""

    tokenizer: Tokenizer
    classes: dict[tuple[str, str], int] = field(init=False)
    _known: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.classes = word_classes()
        (self.pad,) = self._encode("<|audio_pad|>")
        (self.filler,) = self._encode("<|endoftext|>")

    def around(self, context: str) -> tuple[list[int], list[int]]:
        """What stands before and behind the audio's positions, as the library writes it."""
        system = f"{context}\n" if context else ""
        before = self._encode(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<|audio_start|>")
        return before, self._encode("<|audio_end|><|im_end|>\n<|im_start|>assistant\n")

    def answer(self, utterance: CorpusUtterance, words: list[str]) -> tuple[list[int], list[int]]:
        """The language and what follows it."""
        language = self._encode(f"language {utterance.language}<asr_text>")
        blank = phrases.NAMED[utterance.language].blank if words else ""
        text = [self._word(word if place == 0 else blank + word) for place, word in enumerate(words)]
        return language, text + self._encode("<|im_end|>")

    def _word(self, text: str) -> int:
        (only,) = self._encode(text)
        return only

    def _encode(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self.tokenizer.encode(text).ids
        return self._known[text]

    def __call__(self, group: list[RecordedUtterance], chunks: int, seed: int) -> AsrBatch:
        """Padded on the right: nothing real sees the padding. Contexts that would make a row too long are left out."""
        draw = random.Random(seed)
        length, longest = row_length(chunks), answer_length(chunks)
        ids = np.full((len(group), length), self.filler, np.int32)
        sources = np.full(ids.shape, UNKNOWN, np.int32)
        places, targets = np.zeros((2, len(group), longest), np.int32)
        weights = np.zeros((len(group), longest), np.float32)
        for row, one in enumerate(group):
            audio = positions(len(one.features))
            given, words = context(draw, one.utterance)
            language, text = self.answer(one.utterance, words)
            before, behind = self.around(given)
            if len(before) + audio + len(behind) + len(language) + len(text) > length:
                before, behind = self.around("")
                language, text = self.answer(one.utterance, one.utterance.words)
            answer = language + text
            start = len(before) + audio + len(behind)
            ids[row, : start + len(answer)] = before + [self.pad] * audio + behind + answer
            sources[row, len(before) : len(before) + audio] = np.arange(audio)
            places[row, : len(answer)] = np.arange(start - 1, start - 1 + len(answer))
            targets[row, : len(answer)] = answer
            weights[row, : len(language)] = PREFIX_WEIGHT
            weights[row, len(language) : len(answer)] = 1.0
        lengths = np.array([positions(len(one.features)) for one in group], np.int32)
        heard = sound(group, chunks * CHUNK, np.random.default_rng(seed))
        order = np.arange(chunks * POSITIONS)
        classes = heard_classes(self.classes, group, order // POSITIONS * CHUNK + order % POSITIONS * 8 + 4, lengths)
        return AsrBatch(heard, lengths, ids, sources, places, targets, weights, classes)


def row_length(chunks: int) -> int:
    """Tokens of a row, so many chunks of audio and what stands around them."""
    return chunks * POSITIONS + 22 + answer_length(chunks)


def answer_length(chunks: int) -> int:
    """The language, an end, and no more words than anyone says in that time."""
    return 8 + min(5 * chunks, 44)


def word_classes() -> dict[tuple[str, str], int]:
    """Of language and word, from 1."""
    every = [(language.name, word) for language in phrases.LANGUAGES for word in language.words]
    return {one: number for number, one in enumerate(every, start=1)}


def heard_classes(
    known: dict[tuple[str, str], int], group: list[RecordedUtterance], centres: npt.NDArray[np.int64], lengths: Numbers
) -> Numbers:
    """(rows, positions): which word is heard around each position's frame in `centres`."""
    made = np.zeros((len(group), len(centres)), np.int32)
    for row, one in enumerate(group):
        utterance = one.utterance
        if utterance.words:
            own = np.array([0, *(known[utterance.language, word] for word in utterance.words), 0], np.int32)
            made[row] = own[np.searchsorted(utterance.starts, centres, "right")]
    made[np.arange(len(centres)) >= lengths[:, None]] = UNKNOWN
    return made


def context(draw: random.Random, utterance: CorpusUtterance) -> tuple[str, list[str]]:
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


def sound(group: list[RecordedUtterance], frames: int, draw: np.random.Generator) -> SoundBatch:
    """Some bins and frames of some recordings are hidden, so that no detail alone is relied on; some are louder, or
    have more bass or treble."""
    bins = group[0].features.shape[1]
    made = np.zeros((len(group), frames, bins), np.float16)
    sizes = np.array([len(one.features) for one in group], np.int32)
    for row, one in zip(made, group, strict=True):
        row[: len(one.features)] = one.features
    rows = len(group)
    changed = draw.random(rows) < HIDDEN
    most = np.where(draw.random((rows, 2)) < 0.5, MOST_HIDDEN_BINS, 1)
    hidden_bins = _bands(draw, np.full(rows, bins), most, bins) & changed[:, None]
    most = np.full((rows, 1 + frames // 150), MOST_HIDDEN_FRAMES)
    hidden_frames = _bands(draw, sizes, most, frames) & changed[:, None]
    across = np.linspace(-1, 1, bins)
    louder, treble, middle = draw.uniform(-1, 1, (3, rows, 1)) * np.array([0.15, 0.08, 0.05])[:, None, None]
    lift = (louder + treble * across + middle * np.cos(np.pi * across)) * changed[:, None]
    return SoundBatch(made, sizes, hidden_frames, hidden_bins, lift.astype(np.float32))


def _bands(draw: np.random.Generator, sizes: Any, most: Any, length: int) -> npt.NDArray[np.bool_]:
    """(rows, length): True in bands that begin anywhere within `sizes` (rows,), each narrower than `most` (rows, n)."""
    starts = (draw.random(most.shape) * sizes[:, None]).astype(np.int32)
    ends = starts + (draw.random(most.shape) * most).astype(np.int32)
    order = np.arange(length)
    inside: npt.NDArray[np.bool_] = (order >= starts[..., None]) & (order < ends[..., None])
    made: npt.NDArray[np.bool_] = np.any(inside, axis=1)
    return made
