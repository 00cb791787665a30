"""The folder of models that listen and speak, made by a process of its own when it is wanted."""

import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec

from bench import processes
from bench.checkpoints import chat as checkpoints
from bench.checkpoints.chat import RandomCheckpoint
from bench.scale import Scale
from bench.streams import BenchFailed


def make(work: Path, scale: Scale) -> RandomCheckpoint:
    """The checkpoint of a chat model; beside its folder are those of `jobs.KINDS`.

    Written once, and published by a rename.
    """
    sizes = msgspec.json.encode(scale.audio)
    models = work / f"models-audio-{hashlib.sha256(sizes).hexdigest()[:8]}"
    if not models.exists():
        with checkpoints.published(models) as unfinished:
            command = [sys.executable, "-P", "-m", "bench.checkpoints.audio_weights", str(unfinished)]
            environment = processes.environment(1, preload=False)
            done = subprocess.run(command, input=sizes, env=environment, capture_output=True)
            if done.returncode:
                raise BenchFailed(f"the checkpoints can't be made:\n{done.stderr.decode(errors='replace')}")
    return checkpoints.make(models, scale.vocabularies[0], scale)
