"""`python -m training.speech.measure_whisper CORPUS FOLDER [EVERY]`: `measure`, of what `train_whisper` wrote."""

import training.quick_blas  # noqa: F401

# isort: split
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_audio.stt.utils import load_model

from demo.whisper_checkpoint import trained_whisper
from training.speech import phrases
from training.speech.measure import RecognitionFigure, Test, figures, run
from training.speech.sound import Samples

NAMES = {language.code: language.name for language in phrases.LANGUAGES}


def load(folder: Path) -> Any:
    """Through a checkpoint directory as a server reads it; in single precision, which processors are quicker with."""
    with tempfile.TemporaryDirectory() as name:
        trained_whisper(Path(name), folder)
        model = load_model(Path(name), strict=True)
    model.update(tree_map(lambda array: array.astype(mx.float32), model.parameters()))
    return model


def hear(model: Any, samples: Samples, language: str | None = None) -> tuple[str, str]:
    """Text and language; Whisper names one also where nobody speaks."""
    code = phrases.NAMED[language].code if language else None
    result = model.generate(np.array(samples), language=code, temperature=0.0, fp16=False)
    text = str(result.text).strip()
    return text, NAMES.get(result.language, result.language) if text else phrases.NOTHING


def whisper(folder: Path, test: Test) -> Iterator[RecognitionFigure]:
    """Of what `train_whisper` wrote."""
    return figures(partial(hear, load(folder)), test)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], whisper))
