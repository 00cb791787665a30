"""Writes all demo checkpoints: `python -m demo FOLDER`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.checkpoints import trained_gemma3, trained_qwen3
from demo.speech_checkpoints import make_aligner, trained_qwen3_asr
from demo.voice_checkpoints import make_qwen3_tts_base, trained_qwen3_tts
from demo.whisper_checkpoint import trained_whisper

MAKERS: Mapping[str, Callable[[Path], None]] = {
    "demo-qwen3": trained_qwen3,
    "demo-gemma3": trained_gemma3,
    "demo-qwen3-asr": trained_qwen3_asr,
    "demo-aligner": make_aligner,
    "demo-whisper": trained_whisper,
    "demo-qwen3-tts": trained_qwen3_tts,
    "demo-qwen3-tts-base": make_qwen3_tts_base,
}


def main(arguments: list[str]) -> int:
    """The exit status; the folders are listed on stdout."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m demo FOLDER\n")
        return 2
    for name, make in MAKERS.items():
        make(Path(arguments[0]) / name)
        sys.stdout.write(f"{Path(arguments[0]) / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
