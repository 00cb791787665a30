"""The fields of the routes of recordings and speech, in the classes of `table.py`."""

import re
from collections.abc import Mapping

from engines.media.formats import KINDS
from openai_compat import service_tier
from openai_compat.chat.table import Table

_MODEL = "name of a model, as `/v1/models` lists them, in any case; OpenAI's names, and none, are the port's default"
_FILE = f"the recording, told by its content; its name is never used. What can be read: {KINDS}"
_TRACK = (
    "which of the file's audio tracks, counted from 1; if missing, the one that is marked as default, or the next if "
    "there is no sound in its first ten minutes; where there are several, the answer has `track` and `tracks`, and the "
    "header `X-Audio-Track`"
)
_LISTEN = {
    "file": _FILE,
    "model": _MODEL,
    "language": "what is spoken: a code (`zh`, `yue`, `en`, `pt-BR`) or a name, in English or Chinese; if missing or "
    "`auto`, the model tells",
    "languages": "a single one, as `language`; models here can't choose among several, so more are refused",
    "track": _TRACK,
    "channels": "`mix` (the default: whoever is in any channel is heard), the number of one channel, counted from 1, "
    "or `separate`: up to 16 channels are written down each for itself; segments have their `channel`, the text says "
    "in front of each stretch which one it is, and so do subtitles",
    "prompt": "text with names and terms that may come up, as context for the model",
    "hotwords": "terms that may come up; repeated, or with commas between",
    "keywords": "as `hotwords`",
    "temperature": "0 (always the likeliest token) to 1",
    "response_format": "`json`, `text`, `srt`, `verbose_json` or `vtt`",
    "timestamp_granularities": "`segment` (the default), `word` or both: what a `verbose_json` tells the times of; "
    "`word` with that format alone",
    "stream": "server-sent events as text is written, instead of one answer",
    service_tier.FIELD: f"{service_tier.WHAT}background, whose first piece waits for no condition of the machine",
}
_NOT_BUILT: dict[str, tuple[object, ...]] = {
    "chunking_strategy": ("auto",),
    "diarize": (False,),
    "include": ([],),
    "known_speaker_names": ([],),
    "known_speaker_references": ([],),
}
TRANSCRIPTIONS = Table(
    acts=_LISTEN
    | {"script": "`traditional` or `simplified` writes all Chinese in it; `as-is` leaves it as the model wrote it"},
    refused=_NOT_BUILT | {"task": ("transcribe",)},
    without_effect={},
)
TRANSLATIONS = Table(acts=_LISTEN, refused=_NOT_BUILT | {"task": ("translate",)}, without_effect={})
ALIGNMENTS = Table(
    acts={
        "file": _FILE,
        "model": _MODEL,
        "text": "what is spoken in it",
        "track": "as in `/v1/audio/transcriptions`",
        "channels": "`mix` (the default) or the number of one channel, counted from 1",
        service_tier.FIELD: "as in `/v1/audio/transcriptions`",
        "language": "as in `/v1/audio/transcriptions`; if missing, the text's script tells, and for Latin letters none "
        "is told (`null`); one that the model doesn't know is refused with those that it knows",
    },
    refused={},
    without_effect={},
)
# Fields by the names that other servers have for them: they are what they stand for.
SPEECH_ALIASES: Mapping[str, str] = {
    **dict.fromkeys("ref_audio prompt_audio audio_prompt speaker_wav prompt_wav".split(), "reference_audio"),
    **dict.fromkeys("ref_text prompt_text".split(), "reference_text"),
    **dict.fromkeys("instruct instruction".split(), "instructions"),
    **dict.fromkeys("lang_code lang language_code".split(), "language"),
    **dict.fromkeys("speaker voice_id".split(), "voice"),
    **dict.fromkeys("format output_format audio_format".split(), "response_format"),
    "sampling_rate": "sample_rate",
}
# A name in no table that has one of these words says how it shall sound: it is refused, and not ignored.
ABOUT_SOUND = re.compile(
    r"(?:^|_)(?:voices?|speakers?|spk|ref|references?|prompts?|clon(?:e|ing)|timbre|embeddings?|accent|dialect|gender|age"
    r"|lang|language|emotions?|emo|mood|tone|style|pitch|volume|gain|loudness|speed|rate|tempo|pace|duration|pauses?"
    r"|emphasis|prosody|energy|cfg|guidance|temp|bitrate|codec|container|channels)(?:_|$)",
    re.IGNORECASE,
)
_UNCHANGED = (0, 1)
SPEECH = Table(
    acts={
        "model": _MODEL,
        "input": "the text to speak, up to 100,000 characters",
        "voice": 'a voice, as `/v1/audio/voices` lists them, or one of OpenAI\'s names; also `{"id": NAME}`; if '
        "missing, the model's first; for one that was stored, and for `reference_audio`, a model that imitates answers "
        "where none is named",
        "instructions": "in what manner it is spoken",
        "language": "what the text is written in, as in `/v1/audio/transcriptions`; if missing, the model tells",
        "speed": "0.25 to 4; the pitch stays",
        "response_format": "`wav`, `mp3`, `flac`, `opus`, `aac` or `pcm`; if missing, `mp3` where `model` is one of "
        "OpenAI's names, as there, and else `wav`",
        "sample_rate": "8000 to 48000 samples a second, `wav`, `flac` and `pcm` also 88200 and 96000; if missing, the "
        "model's own, 24000",
        "stream_format": "`audio` (the default) or `sse`: OpenAI's events `speech.audio.delta` and `speech.audio.done`",
        "stream": "`true` sends sound as it is made, `false` sends the file whole, with true sizes; if missing, `mp3`, "
        "`opus`, `aac` and `pcm` are sent as they are made",
        "seed": "the same seed and text give the same sound, whatever else runs, where `/v1/models` says "
        "`reproducible`",
        "reference_audio": "a recording of a voice to imitate, instead of `voice`: a `data:` URL with base64, or an "
        "upload where the body is a multipart form; never a path or link",
        "reference_text": "what is spoken in it; if missing, it is transcribed",
        service_tier.FIELD: f"{service_tier.WHAT}interactive",
    }
    | {alias: f"as `{name}`" for alias, name in SPEECH_ALIASES.items()},
    refused={
        # What other servers take to choose another voice, or another manner.
        "references": ([],),
        "reference_id": (),
        "speaker_embedding": (),
        "x_vector_only_mode": (False,),
        "voice_settings": ({},),
        "voice_description": (),
        "gender": (),
        "pitch": _UNCHANGED,
        "emotion": (),
        "style": (),
        "exaggeration": (),
        "volume": _UNCHANGED,
        # How a model draws what it says.
        "temperature": (),
        "top_p": (1,),
        "top_k": (0, -1),
        "min_p": (0,),
        "repetition_penalty": (1,),
        "cfg_scale": (),
        "cfg_weight": (),
        "max_tokens": (),
        "max_new_tokens": (),
        # What the answer is.
        "return_timestamps": (False,),
        "timestamps": (False,),
        "return_download_link": (False,),
    },
    without_effect={"user": "says who asks, for abuse checks"},
)
VOICES = Table(
    acts={
        "name": "by which it can be given as `voice`",
        "audio_sample": "the recording: a few seconds of one voice, without noise",
        "file": "as `audio_sample`",
        "text": "what is spoken in it; if missing, it is transcribed",
        "consent": "who agreed that the voice may be imitated, in your words; it is kept beside the recording",
    },
    refused={"type": ("audio_sample",), "prompt": (), "model": (), "script_hint": ()},
    without_effect={},
)
