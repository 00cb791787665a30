import asyncio

import pytest

from engines.audio_types import Voice
from engines.scripted import Scripted
from engines.voice.imitating import speaker


class Imitating(Scripted):
    """Whose usual model has no voices of its own."""

    async def voices(self, model: str) -> tuple[Voice, ...]:
        return tuple(self.stored.values())


@pytest.mark.parametrize(
    ("voice", "reference", "model"),
    [
        ("", False, "qwen3-tts"),
        ("serena", False, "qwen3-tts"),
        ("Alloy", False, "qwen3-tts"),
        ("nobody", False, "qwen3-tts"),
        ("", True, "qwen3-tts-base"),
        ("Zoë", False, "qwen3-tts-base"),
        (" zoe\u0308 ", False, "qwen3-tts-base"),
    ],
)
def test_recorded_voices_are_for_the_model_that_imitates(voice: str, reference: bool, model: str) -> None:
    for inference, expected in ((Scripted(), model), (Imitating(), "qwen3-tts")):
        inference.stored["Zoë"] = Voice("Zoë", stored=True)
        assert asyncio.run(speaker(inference, "qwen3-tts", "qwen3-tts-base", voice, reference)) == expected
