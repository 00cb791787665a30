"""A few seconds of speech to try transcription on, with what is said in them; the voices were never trained on."""

from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent


class BundledRecording(msgspec.Struct, frozen=True):
    """A sound file beside this module; `language` is a code."""

    name: str
    text: str
    language: str

    @property
    def path(self) -> Path:
        return FOLDER / self.name


def recordings() -> tuple[BundledRecording, ...]:
    """All of them, as recordings.json lists them."""
    return msgspec.json.decode((FOLDER / "recordings.json").read_bytes(), type=tuple[BundledRecording, ...])
