"""The fields of the routes of recordings and speech, in the classes of `table.py`."""

from openai_compat.table import Table

_MODEL = "name of a model, as `/v1/models` lists them, in any case; OpenAI's names, and none, are the port's default"
_FILE = "the recording, of any usual kind, told by its content; its name is never used"
_LISTEN = {
    "file": _FILE,
    "model": _MODEL,
    "language": "what is spoken: a code (`zh`, `yue`, `en`, `pt-BR`) or a name, in English or Chinese; if missing or "
    "`auto`, the model tells",
    "languages": "a single one, as `language`; models here can't choose among several, so more are refused",
    "prompt": "text with names and terms that may come up, as context for the model",
    "hotwords": "terms that may come up; repeated, or with commas between",
    "keywords": "as `hotwords`",
    "temperature": "0 (always the likeliest token) to 1",
    "response_format": "`json`, `text`, `srt`, `verbose_json` or `vtt`",
    "timestamp_granularities": "`segment` (the default), `word` or both: what a `verbose_json` tells the times of; "
    "`word` with that format alone",
    "stream": "server-sent events as text is written, instead of one answer",
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
        "language": "as in `/v1/audio/transcriptions`; if missing, the text's script tells, and for Latin letters none "
        "is told (`null`); one that the model doesn't know is refused with those that it knows",
    },
    refused={},
    without_effect={},
)
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
        "response_format": "`wav` (the default here; OpenAI's is `mp3`), `mp3`, `flac`, `opus`, `aac` or `pcm`",
        "sample_rate": "8000 to 48000 samples a second, `wav`, `flac` and `pcm` also 88200 and 96000; if missing, the "
        "model's own, 24000",
        "stream_format": "`audio` (the default) or `sse`: OpenAI's events `speech.audio.delta` and `speech.audio.done`",
        "stream": "`true` sends sound as it is made, `false` sends the file whole, with true sizes; if missing, `mp3`, "
        "`opus`, `aac` and `pcm` are sent as they are made",
        "seed": "the same seed and text give the same sound, whatever else runs",
        "reference_audio": "a recording of a voice to imitate, instead of `voice`: a `data:` URL with base64, or an "
        "upload where the body is a multipart form; never a path or link",
        "reference_text": "what is spoken in it; if missing, it is transcribed",
    },
    refused={},
    without_effect={},
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
