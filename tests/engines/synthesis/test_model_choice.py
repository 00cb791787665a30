import asyncio

import pytest

from engines.synthesis.model_choice import speaker
from engines.types.audio import Voice
from engines.types.errors import ModelNotInstalled, ServiceError
from tests.scripted import Scripted


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


class Alone(Scripted):
    """Without the usual model."""

    async def voices(self, model: str) -> tuple[Voice, ...]:
        raise ModelNotInstalled(f"{model} is not installed.")


def test_a_voice_in_the_request_needs_no_usual_model_and_a_named_one_is_told_that_it_lacks() -> None:
    assert asyncio.run(speaker(Alone(), "qwen3-tts", "qwen3-tts-base", "", True)) == "qwen3-tts-base"
    with pytest.raises(ServiceError, match="qwen3-tts is not installed"):
        asyncio.run(speaker(Alone(), "qwen3-tts", "qwen3-tts-base", "Zoë", False))
