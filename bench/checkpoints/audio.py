"""The folder of models that listen and speak, made when it is wanted."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from bench import processes
from bench.checkpoints import chat as checkpoints
from bench.checkpoints.chat import Checkpoint
from bench.scale import Scale
from bench.streams import BenchFailed


def make(work: Path, scale: Scale) -> Checkpoint:
    """The checkpoint of a chat model; beside its folder are those of the kinds in `audio_jobs`.

    Written once, and published by a rename.
    """
    told = msgspec.json.encode(scale.audio)
    models = work / f"models-audio-{hashlib.sha256(told).hexdigest()[:8]}"
    if not models.exists():
        unfinished = models.with_name(f".{models.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        command = [sys.executable, "-P", "-m", "bench.checkpoints.audio_weights", str(unfinished)]
        environment = processes.environment(1, preload=False)
        done = subprocess.run(command, input=told, env=environment, capture_output=True)
        if done.returncode:
            raise BenchFailed(f"the checkpoints can't be made:\n{done.stderr.decode(errors='replace')}")
        unfinished.rename(models)
    return checkpoints.make(models, scale.vocabularies[0], scale)
