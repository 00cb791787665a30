"""mlx-audio's own `generate`, in process.

It does one request after the other, as its models have it: several at a time wait for each other. Sound comes decoded,
and goes as it is.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_audio.stt.utils import load_model as load_listener
from mlx_audio.tts.utils import load_model as load_speaker

from bench import sounds
from bench.libraries.jobs import INTERVAL, AudioAnswer, AudioKind, Job, Listen, Speak

MOST_TOKENS = 2048


class MlxAudioModel:
    def __init__(self, kind: AudioKind, folder: Path) -> None:
        self._kind = kind
        load: Callable[..., Any] = load_speaker if kind == "qwen3-tts" else load_listener
        self._model = load(folder, strict=True)
        self._half = mx.default_device().type != mx.cpu
        if kind == "whisper" and not self._half:
            _widen(self._model)

    def do(self, job: Job) -> list[AudioAnswer]:
        """Raises `TypeError` for a job of another library."""
        match job:
            case Listen():
                return self.listen(job)
            case Speak():
                return self.speak(job)
        raise TypeError(job)

    def listen(self, job: Listen) -> list[AudioAnswer]:
        submitted = time.monotonic()
        return [self._heard(submitted, Path(path), job) for path in job.paths]

    def _heard(self, submitted: float, path: Path, job: Listen) -> AudioAnswer:
        sound = sounds.read(path)
        if self._kind == "whisper":
            found = self._model.generate(
                sound, language="en", temperature=0.0, condition_on_previous_text=False, fp16=self._half
            )
            return _told(submitted, found.text)
        options = {"language": "English", "chunk_duration": job.piece, "max_tokens": MOST_TOKENS}
        if not job.streamed:
            return _told(submitted, self._model.generate(sound, **options).text)
        first = 0.0
        parts: list[str] = []
        for piece in self._model.generate(sound, stream=True, **options):
            if piece.text.strip() and not first:  # what was said, as of ours; the language is none of its text
                first = time.monotonic()
            parts.append(piece.text)
        return AudioAnswer(submitted, first, time.monotonic(), "".join(parts))

    def speak(self, job: Speak) -> list[AudioAnswer]:
        submitted = time.monotonic()
        return [self._spoken(submitted, text, job) for text in job.texts]

    def _spoken(self, submitted: float, text: str, job: Speak) -> AudioAnswer:
        first, samples = 0.0, 0
        options = {"stream": True, "streaming_interval": INTERVAL} if job.streamed else {}
        for piece in self._model.generate(text, voice=job.voice, lang_code="english", **options):
            samples += len(np.array(piece.audio))
            first = first or time.monotonic()
        return AudioAnswer(submitted, first, time.monotonic(), sound=samples / self._model.sample_rate)


def _widen(model: Any) -> None:
    """To float32, the weights' own and the faster one without a GPU; the library loads in half precision."""
    model.dtype = mx.float32
    model.update(tree_map(lambda one: one.astype(mx.float32), model.parameters()))
    model.encoder._positional_embedding = model.encoder._positional_embedding.astype(mx.float32)


def _told(submitted: float, text: str) -> AudioAnswer:
    now = time.monotonic()
    return AudioAnswer(submitted, now, now, text)
