"""mlx-audio's own `generate` in a process: jobs as JSON lines on stdin, answers on stdout.

Started as `python -P -m bench.libraries.mlx_audio_models KIND FOLDER`. It does one request after the other, as its
models have it: several at a time wait for each other. Sound comes decoded, and goes as it is.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import mlx.core as mx
import msgspec
import numpy as np
from mlx.utils import tree_map
from mlx_audio.stt.utils import load_model as load_listener
from mlx_audio.tts.utils import load_model as load_speaker

from bench import sounds
from bench.libraries.audio_jobs import INTERVAL, Answer, Command, Kind, Listen, Speak
from bench.libraries.device import device
from bench.libraries.jobs import AskDevice

MOST_TOKENS = 2048


class Library:
    def __init__(self, kind: Kind, folder: Path) -> None:
        self._kind = kind
        load: Callable[..., Any] = load_speaker if kind == "qwen3-tts" else load_listener
        self._model = load(folder, strict=True)
        self._half = mx.default_device().type != mx.cpu
        if kind == "whisper" and not self._half:
            _widen(self._model)

    def listen(self, job: Listen) -> list[Answer]:
        submitted = time.monotonic()
        return [self._heard(submitted, Path(path), job) for path in job.paths]

    def _heard(self, submitted: float, path: Path, job: Listen) -> Answer:
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
        return Answer(submitted, first, time.monotonic(), "".join(parts))

    def speak(self, job: Speak) -> list[Answer]:
        submitted = time.monotonic()
        return [self._spoken(submitted, text, job) for text in job.texts]

    def _spoken(self, submitted: float, text: str, job: Speak) -> Answer:
        first, samples = 0.0, 0
        options = {"stream": True, "streaming_interval": INTERVAL} if job.streamed else {}
        for piece in self._model.generate(text, voice=job.voice, lang_code="english", **options):
            samples += len(np.array(piece.audio))
            first = first or time.monotonic()
        return Answer(submitted, first, time.monotonic(), sound=samples / self._model.sample_rate)


def _widen(model: Any) -> None:
    """To float32, the weights' own and the faster one without a GPU; the library loads in half precision."""
    model.dtype = mx.float32
    model.update(tree_map(lambda one: one.astype(mx.float32), model.parameters()))
    model.encoder._positional_embedding = model.encoder._positional_embedding.astype(mx.float32)


def _told(submitted: float, text: str) -> Answer:
    now = time.monotonic()
    return Answer(submitted, now, now, text)


def serve(library: Library, source: BinaryIO, sink: BinaryIO) -> None:
    """Until the end of `source`."""
    for line in source:
        command = msgspec.json.decode(line, type=Command)
        match command:
            case Listen():
                answer: object = library.listen(command)
            case Speak():
                answer = library.speak(command)
            case AskDevice():
                answer = device()
        sink.write(msgspec.json.encode(answer) + b"\n")
        sink.flush()


if __name__ == "__main__":
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print belongs to the log
    assert sys.argv[1] in get_args(Kind)
    serve(Library(cast(Kind, sys.argv[1]), Path(sys.argv[2])), sys.stdin.buffer, results)
