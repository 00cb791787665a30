"""Which model speaks where a client names none: the usual one, or the one that imitates recorded voices."""

import unicodedata

from engines.models.voices import OPENAI_VOICES
from engines.types.errors import ModelNotInstalled, UnknownModel
from engines.types.inference import Inference


async def speaker(inference: Inference, usual: str, imitating: str, voice: str, reference: bool) -> str:
    """`usual`, unless it has voices of its own, and so imitates none, and the voice is a recorded one: stored under the
    name `voice`, or in the request itself (`reference`), for which `usual` needn't be there. Raises as
    `Inference.voices` does, for `usual`."""
    wanted = _folded(voice)
    if not reference and (not wanted or wanted in OPENAI_VOICES):
        return usual
    try:
        voices = await inference.voices(usual)
    except (UnknownModel, ModelNotInstalled):
        if reference:
            return imitating
        raise
    recorded = reference or any(one.stored and _folded(one.name) == wanted for one in voices)
    return imitating if recorded and any(not one.stored for one in voices) else usual


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip()).casefold()
