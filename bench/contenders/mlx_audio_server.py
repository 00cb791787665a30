"""The server that ships with mlx-audio, where what it needs is installed besides: fastapi and webrtcvad."""

import asyncio
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from bench import processes
from bench.client import audio
from bench.client.connection import Chunk
from bench.contenders.child import Child
from bench.contenders.names import AUDIO_SERVER
from bench.contenders.servers import OverHttp
from bench.libraries.jobs import INTERVAL, VOICE, AudioAnswer, AudioKind, Device
from bench.streams import BenchFailed

NEEDS = ("fastapi", "webrtcvad")
INSTALL = "install fastapi and webrtcvad-wheels"
LANGUAGES: dict[AudioKind, str] = {"qwen3-asr": "English", "whisper": "en", "qwen3-tts": "english"}


class MlxAudioServer(OverHttp):
    """It loads a model when that is first asked for: by its folder. Recordings in pieces as long as ours.

    `streamed`: what its `generate` can tell early; whatever it says of a recording comes as lines of JSON.
    """

    def __init__(self, folder: Path, piece: float, threads: int, logs: Path) -> None:
        port = processes.free_port()
        command = ["mlx_audio.server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--log-dir", str(logs / "mlx-audio")]
        environment = processes.environment(threads, preload=True)
        super().__init__(AUDIO_SERVER, str(folder), Child(AUDIO_SERVER, command, environment, logs), port)
        self._folder = folder
        self._piece = piece

    async def listen(self, kind: AudioKind, paths: Sequence[Path], *, streamed: bool) -> list[AudioAnswer]:
        fields = {"model": str(self._folder), "language": LANGUAGES[kind], "stream": str(streamed).lower()}
        if self._piece:
            fields["chunk_duration"] = str(self._piece)
        uploads = [audio.uploaded(self.url, fields, path) for path in paths]
        return [heard(submitted, chunks) for submitted, chunks in await asyncio.gather(*uploads)]

    async def speak(self, kind: AudioKind, texts: Sequence[str], *, streamed: bool) -> list[AudioAnswer]:
        fields = {"model": str(self._folder), "voice": VOICE, "lang_code": LANGUAGES[kind], "response_format": "pcm"}
        how = {"stream": streamed, "streaming_interval": INTERVAL}
        asked = [audio.posted(self.url, {**fields, **how, "input": text}) for text in texts]
        return [audio.spoken(submitted, chunks) for submitted, chunks in await asyncio.gather(*asked)]


def check(device: Device) -> None:
    """Raises `BenchFailed`, with what to do, where it can't work."""
    lacking = [module for module in NEEDS if importlib.util.find_spec(module) is None]
    if lacking:
        raise BenchFailed(f"{', '.join(lacking)} is not installed: {INSTALL}")
    if not device.is_gpu:  # it starts a stream of its own on one, and answers nothing when that fails
        raise BenchFailed("it needs a GPU")


def heard(submitted: float, chunks: Sequence[Chunk]) -> AudioAnswer:
    """A transcript in lines of JSON, each with the next text. Raises `BenchFailed` for an error, or no text."""
    first, ended, rest = 0.0, 0.0, b""
    texts: list[str] = []
    for moment, data in [*chunks, (chunks[-1][0] if chunks else 0.0, b"\n")]:
        *lines, rest = (rest + data).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            said = json.loads(line)
            if "error" in said:
                raise BenchFailed(f"a transcription failed: {said['error']}")
            if text := said.get("text"):
                first = first or moment
                texts.append(text)
        ended = moment
    if not first:
        raise BenchFailed("a transcript is empty")
    return AudioAnswer(submitted, first, ended, "".join(texts))
