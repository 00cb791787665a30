"""Which voices and languages a model speaks with, from its own configuration; no weights are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

import msgspec

from engines.models.model_files import read_json
from engines.text import languages
from engines.types.audio import Voice
from engines.types.errors import CheckpointUnusable, InvalidRequest

Kind = Literal["custom_voice", "base", "voice_design"]

# OpenAI's voices → those of Qwen3-TTS that come nearest; in a model without that one, the one at the same place.
OPENAI_VOICES: Mapping[str, str] = {
    "alloy": "serena",
    "ash": "ryan",
    "ballad": "dylan",
    "coral": "vivian",
    "echo": "aiden",
    "fable": "eric",
    "nova": "vivian",
    "onyx": "uncle_fu",
    "sage": "serena",
    "shimmer": "sohee",
    "verse": "ryan",
    "marin": "ono_anna",
    "cedar": "uncle_fu",
}
# By the model's makers; all speak every language of the model, their own best.
NATIVE_LANGUAGES: Mapping[str, str] = {
    "serena": "zh",
    "vivian": "zh",
    "uncle_fu": "zh",
    "dylan": "zh",
    "eric": "zh",
    "ryan": "en",
    "aiden": "en",
    "ono_anna": "ja",
    "sohee": "ko",
}


class Speakers(msgspec.Struct, frozen=True):
    """What a checkpoint says of its voices: ids by lower-case name, in its order.

    `dialects` names the language of speakers of a dialect. Small models ("0b6") take no `instructions`.
    """

    kind: Kind
    instructed: bool
    speakers: Mapping[str, int]
    languages: Mapping[str, int]
    dialects: Mapping[str, str]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of its languages, without dialects."""
        found = (languages.code_of(name) for name in self.languages if "dialect" not in name)
        return tuple(code for code in found if code)

    def named(self, voice: str) -> str:
        """The speaker that a client's name means: "" is the first, OpenAI's names have their like. Any case.

        Raises `InvalidRequest` with the voices there are.
        """
        name = voice.strip().casefold()
        if name in self.speakers:
            return name
        known = list(self.speakers)
        if not name:
            return known[0]
        if name in OPENAI_VOICES:
            likely = OPENAI_VOICES[name]
            return likely if likely in self.speakers else known[list(OPENAI_VOICES).index(name) % len(known)]
        raise InvalidRequest(
            f"There is no voice {voice[:60]!r}. This model has: {', '.join(known)}. "
            f"OpenAI's names work too: {', '.join(OPENAI_VOICES)}.",
            param="voice",
        )

    def language_id(self, code: str, speaker: str = "") -> int | None:
        """The model's number for a language, or of the dialect that a speaker makes of Chinese; None: it tells itself.

        Raises `InvalidRequest` with the languages there are.
        """
        name = languages.name_for_qwen(code).casefold() if code in ("", *languages.CODES) else code.casefold()
        if code and name not in self.languages:
            message = f"This model doesn't speak {code[:40]!r}. It speaks: {', '.join(self.codes)}."
            raise InvalidRequest(f"{message} Leave language out to have it told from the text.", param="language")
        if name in ("", "chinese") and self.dialects.get(speaker) in self.languages:
            name = self.dialects[speaker]
        return self.languages[name] if name else None


def read_speakers(folder: Path) -> Speakers:
    """Raises `CheckpointUnusable` for a configuration that isn't one of a Qwen3-TTS model."""
    path = folder / "config.json"
    try:
        config = read_json(path)
        talker = config["talker_config"]
        kind = config.get("tts_model_type", "base")
        speakers = {name.casefold(): _first(id) for name, id in (talker.get("spk_id") or {}).items()}
        named = {name.casefold(): int(id) for name, id in (talker.get("codec_language_id") or {}).items()}
        spoken = talker.get("spk_is_dialect") or {}
        dialects = {name.casefold(): dialect.casefold() for name, dialect in spoken.items() if dialect}
    except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointUnusable(f"{path} isn't the configuration of a model that speaks: {error!r}.") from error
    if kind not in get_args(Kind) or (kind == "custom_voice" and not speakers):
        raise CheckpointUnusable(f"{path} names no voices, and a kind of model ({kind!r}) that can't be run.")
    instructed = kind != "base" and config.get("tts_model_size") != "0b6"
    return Speakers(cast(Kind, kind), instructed, speakers if kind == "custom_voice" else {}, named, dialects)


def _first(id: object) -> int:
    return int(cast(int, id[0] if isinstance(id, Sequence) else id))


def voices_of(folder: Path) -> tuple[Voice, ...]:
    """What may be given as `voice` to this model, OpenAI's names left out; empty where voices are imitated."""
    known = read_speakers(folder)
    return tuple(
        Voice(name, (NATIVE_LANGUAGES[name],) if name in NATIVE_LANGUAGES else known.codes) for name in known.speakers
    )
