"""What every contender can be asked. Between `start` and `stop` it has a process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil

from bench.libraries.jobs import AudioAnswer, AudioKind
from bench.streams import Ask, Stream


class Contender(Protocol):
    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def process(self) -> psutil.Process: ...


class ChatContender(Contender, Protocol):
    """One that continues prompts; it runs asks as one burst."""

    async def run(self, asks: Sequence[Ask], *, keep: bool = False) -> list[Stream]:
        """`keep`: one that has no prefix cache of its own may keep the last answer's."""
        ...


class AudioContender(Contender, Protocol):
    """`streamed`: text or sound is wanted as soon as it is known; else the whole, as quickly as possible. One that does
    both at once ignores it."""

    async def listen(self, kind: AudioKind, paths: Sequence[Path], *, streamed: bool) -> list[AudioAnswer]: ...

    async def speak(self, kind: AudioKind, texts: Sequence[str], *, streamed: bool) -> list[AudioAnswer]: ...
