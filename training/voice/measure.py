"""`python -m training.voice.measure OUT [LISTENER]`: what was trained speaks, and the demo's ASR writes it down.

OUT holds what `codec` and `talker` wrote; beside it go qwen3-tts.safetensors and qwen3-tts.tokenizer.json, as
`demo/weights` holds them. Held-out sentences are spoken by the server's own engine through an ordinary checkpoint, at
temperature 0 and as the checkpoint has it. LISTENER holds the weights of the demo's Qwen3-ASR, `demo/weights` else.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import msgspec
import numpy as np

from demo.checkpoints import WEIGHTS, store
from demo.voice_checkpoints import trained_qwen3_tts
from engines.ipc import runner_protocol
from engines.runner.qwen3_tts import model as models
from engines.runner.qwen3_tts.engine import VoiceEngine
from engines.runner.qwen3_tts.prompt import UtteranceWriter
from engines.runner.qwen3_tts.sampling import Choosing
from engines.synthesis.duration_check import cap
from engines.types.audio import Sound, UtteranceDone, UtteranceRequest
from training.speech import phrases
from training.speech.errors import distance, words_of
from training.speech.measure import hear, load
from training.speech.phrases import CHINESE, ENGLISH, Language
from training.speech.sound import Samples, resampled
from training.voice_weights import stored_codec, stored_model

CONTEXT = 4096
SEED = 2_000_000  # no sentence of training was drawn with it
ORDERED, COUNT, WORDS = 20, 40, 4  # sentences of this product's world, and of any words, of each language
NAME = "serena"  # all are one voice's
AROUND = 1600  # samples of silence before and behind, for the listener


class SpokenSamples(NamedTuple):
    samples: Samples  # at 24 kHz
    ended: bool


def put_together(out: Path) -> None:
    """Both trainings' weights in one file, in half precision."""
    talker = {f"talker.{name}": weight for name, weight in np.load(out / "talker.npz").items()}
    codec = {f"decoder.{name}": weight for name, weight in np.load(out / "codec.npz").items()}
    parts = (("model.", stored_model(talker)), ("codec.", stored_codec(codec)))
    store(
        {prefix + name: weight for prefix, own in parts for name, weight in own.items()}, out / "qwen3-tts.safetensors"
    )


class VoiceCheckpoint:
    """A checkpoint as the server has it."""

    def __init__(self, folder: Path) -> None:
        self._writer = UtteranceWriter.read(folder, CONTEXT)
        self._model = models.load(folder)
        self.usual = Choosing.read(folder)

    def say(self, text: str, voice: str = "", seed: int = 1, choosing: Choosing | None = None) -> SpokenSamples:
        self._model._choosing = choosing or self.usual
        engine = VoiceEngine(self._model, 1 << 30)
        request = UtteranceRequest("tts", text, voice=voice, seed=seed, max_seconds=cap(text, False))
        engine.submit(1, self._writer.write(request), 1000)
        parts, ended = [], False
        while not engine.idle:
            for report in engine.step():
                match report:
                    case runner_protocol.Said(_, Sound() as sound):
                        parts.append(np.frombuffer(sound.samples, "<f4"))
                    case runner_protocol.Finished(_, UtteranceDone() as end):
                        ended = end.finish_reason == "stop"
                    case other:
                        raise RuntimeError(str(other))
        return SpokenSamples(np.concatenate([np.zeros(0, np.float32), *parts]), ended)


@dataclass
class SpeechFigure:
    """Of sentences of one kind: errors among all words, sentences without one, those that ended by themselves."""

    name: str
    sentences: int = 0
    words: int = 0
    errors: int = 0
    exact: int = 0
    ended: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, wanted: list[str], got: list[str], ended: bool) -> None:
        errors = distance(wanted, got)
        self.sentences += 1
        self.words += len(wanted)
        self.errors += errors
        self.exact += not errors
        self.ended += ended
        if errors or not ended:
            self.wrong.append(f"{' '.join(got)!r} instead of {' '.join(wanted)!r}{'' if ended else ', without an end'}")

    def line(self) -> str:
        return (
            f"{self.name:44} {100 * self.errors / self.words:5.1f} % of {self.words:4} words wrong, "
            f"{self.exact:3} of {self.sentences:3} exact, {self.ended:3} ended"
        )


def sentences(language: Language, ordered: bool) -> list[list[str]]:
    """Words, of sentences or in any order."""
    draw = random.Random(SEED)
    if ordered:
        return [phrases.sentences(draw, language, 1) for _ in range(ORDERED)]
    return [phrases.any_words(draw, language, 1 + number % WORDS) for number in range(COUNT)]


def figures(voice: VoiceCheckpoint, listener: Any) -> Iterator[SpeechFigure]:
    """By language, order of words and temperature."""
    greedy = msgspec.structs.replace(voice.usual, temperature=0.0)
    for language in (ENGLISH, CHINESE):
        for ordered in (True, False):
            for choosing in (greedy, voice.usual):
                order = "sentences" if ordered else "any words"
                figure = SpeechFigure(f"{language.name}, {order}, temperature {choosing.temperature}")
                for number, words in enumerate(sentences(language, ordered)):
                    said = voice.say(language.written(words), NAME, number, choosing)
                    text, _ = hear(listener, heard(said.samples))
                    wanted = words_of(language.written(words), language.name)
                    figure.add(wanted, words_of(text, language.name), said.ended)
                yield figure


def heard(samples: Samples) -> Samples:
    """As a listener takes it, 16 kHz."""
    return np.pad(resampled(samples, 2, 3), AROUND)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m training.voice.measure OUT [LISTENER]\n")
        return 2
    mx.set_default_device(mx.cpu)
    out = Path(arguments[0])
    put_together(out)
    listener = load(Path(arguments[1]) if len(arguments) == 2 else WEIGHTS)
    with tempfile.TemporaryDirectory() as folder:
        trained_qwen3_tts(Path(folder), out)
        for figure in figures(VoiceCheckpoint(Path(folder)), listener):
            sys.stdout.write(figure.line() + "\n")
            sys.stdout.writelines(f"      {line}\n" for line in figure.wrong[:4])
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
