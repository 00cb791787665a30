"""A library in a process: commands as JSON lines on stdin, answers as JSON lines on stdout.

Started as `python -P -m bench.libraries KIND FOLDER`; KIND is `batch` for mlx-lm, or one of `jobs.KINDS` for mlx-audio.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import msgspec

from bench.libraries.jobs import BATCH_KIND, KINDS, AskDevice, Command, Device, Job


def library(kind: str, folder: Path) -> Callable[[Job], object]:
    """What does its jobs. Each library is imported in its own process alone: its imports cost memory."""
    if kind == BATCH_KIND:
        from bench.libraries.mlx_lm_batch import MlxLmBatch

        return MlxLmBatch(folder).do
    from bench.libraries.mlx_audio_model import MlxAudioModel

    assert kind in KINDS
    return MlxAudioModel(kind, folder).do


def serve(do: Callable[[Job], object], source: BinaryIO, sink: BinaryIO) -> None:
    """Until the end of `source`."""
    for line in source:
        command = msgspec.json.decode(line, type=Command)
        answer = device() if isinstance(command, AskDevice) else do(command)
        sink.write(msgspec.json.encode(answer) + b"\n")
        sink.flush()


def device() -> Device:
    return Device({"device": str(mx.default_device()), **mx.device_info()})


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print belongs to the log
    serve(library(sys.argv[1], Path(sys.argv[2])), sys.stdin.buffer, answers)
