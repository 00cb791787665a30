"""`python -m training.speech.measure CORPUS FOLDER [EVERY]`: how well speech by strange voices is written down.

FOLDER holds what `train` wrote, CORPUS what `corpus` made; no voice in its test is in the training. All goes through
the library's own loading and generation. EVERY 4 takes every fourth recording.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mlx_audio.stt.utils import load_model

from demo.speech_checkpoints import trained_qwen3_asr
from training.speech import phrases
from training.speech.errors import distance, words_of
from training.speech.shards import CorpusUtterance, read
from training.speech.sound import Samples

MOST_SHORT = 4
LONGEST = 120

Test = list[tuple[CorpusUtterance, Samples]]
Hear = Callable[[Samples, str | None], tuple[str, str]]  # of sound, and its language if that is told: text and language


@dataclass
class RecognitionFigure:
    """Of recordings of one kind: errors among all words, recordings without one, languages told rightly."""

    name: str
    recordings: int = 0
    words: int = 0
    errors: int = 0
    exact: int = 0
    told: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, wanted: list[str], got: list[str], language: str, heard: str) -> None:
        self.recordings += 1
        self.words += len(wanted)
        errors = distance(wanted, got)
        self.errors += errors
        self.exact += not errors
        self.told += language == heard
        if errors or language != heard:
            self.wrong.append(f"{heard} {' '.join(got)!r} instead of {language} {' '.join(wanted)!r}")

    def line(self) -> str:
        rate = f"{100 * self.errors / self.words:5.1f} %" if self.words else "  none "
        return (
            f"{self.name:28} {rate} of {self.words:4} words wrong, {self.exact:3} of {self.recordings:3} exact, "
            f"language told in {self.told:3}"
        )


def load(folder: Path) -> Any:
    """Through a checkpoint directory as a server reads it."""
    with tempfile.TemporaryDirectory() as name:
        trained_qwen3_asr(Path(name), folder)
        return load_model(Path(name), strict=True)


def hear(model: Any, samples: Samples, language: str | None = None, context: str | None = None) -> tuple[str, str]:
    """Text and language."""
    result = model.generate(np.array(samples), language=language, system_prompt=context, max_tokens=LONGEST)
    return str(result.text).strip(), str(result.language[0])


def figures(hear: Hear, test: Test) -> Iterator[RecognitionFigure]:
    """By language and length, told the language or not; then what is heard where nobody speaks."""
    for told in (False, True):
        for language in phrases.LANGUAGES:
            for name, fewest, most in (("1 to 4 words", 1, MOST_SHORT), ("more words", MOST_SHORT + 1, 99)):
                figure = RecognitionFigure(f"{language.name}, {name}{', told' * told}")
                for utterance, samples in test:
                    if utterance.language == language.name and fewest <= len(utterance.words) <= most:
                        text, heard = hear(samples, language.name if told else None)
                        wanted = words_of(language.written(utterance.words), language.name)
                        figure.add(wanted, words_of(text, language.name), language.name, heard)
                yield figure
    figure = RecognitionFigure("nobody speaks")
    for utterance, samples in test:
        if utterance.language == phrases.NOTHING:
            text, heard = hear(samples, None)
            figure.add([], words_of(text, heard), phrases.NOTHING, heard)
    yield figure


def spelled_by_context(model: Any, test: Test) -> RecognitionFigure:
    """Words whose spelling the context decides; right if it does, whatever else is heard."""
    figure = RecognitionFigure("spelled as in the context")
    for utterance, samples in test:
        for usual, other in phrases.SPELLINGS.items():
            if usual in utterance.words:
                for context, wanted in ((None, usual), ("report", usual), (f"music, {other}", other)):
                    text, _ = hear(model, samples, utterance.language, context)
                    got = [word for word in text.split() if word in (usual, other)]
                    figure.add([wanted], got[:1], utterance.language, utterance.language)
    return figure


def qwen3_asr(folder: Path, test: Test) -> Iterator[RecognitionFigure]:
    """Of what `train` wrote."""
    model = load(folder)
    yield from figures(partial(hear, model), test)
    yield spelled_by_context(model, test)


def run(arguments: list[str], measured: Callable[[Path, Test], Iterator[RecognitionFigure]]) -> int:
    """Prints what was measured; returns the exit status."""
    if len(arguments) not in (2, 3):
        sys.stderr.write(f"usage: python -m training.speech.{Path(sys.argv[0]).stem} CORPUS FOLDER [EVERY]\n")
        return 2
    every = int(arguments[2]) if len(arguments) == 3 else 1
    for figure in measured(Path(arguments[1]), list(read(Path(arguments[0]), "test"))[::every]):
        sys.stdout.write(figure.line() + "\n")
        sys.stdout.writelines(f"      {line}\n" for line in figure.wrong[:5])
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], qwen3_asr))
