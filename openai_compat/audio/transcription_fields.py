"""Forms of the routes that listen → requests of `engines.types.audio`. Pure. What fields do: `audio_table.py`."""

import re
from collections.abc import Mapping
from typing import Literal, cast

import msgspec

from engines.text import languages
from engines.types.audio import AlignRequest, Script, TranscriptionRequest
from engines.types.errors import InvalidRequest, UnsupportedField
from engines.types.field_reader import MOST_COUNTED, FieldReader, channels
from http_server.multipart import Form
from openai_compat.audio.form_fields import CheckedForm, Kind, check
from openai_compat.audio.table import ALIGNMENTS, TRANSCRIPTIONS, TRANSLATIONS, VOICES
from openai_compat.service_tier import priority

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]

FORMATS: tuple[Format, ...] = ("json", "text", "srt", "verbose_json", "vtt")
TOLD_EARLY: tuple[Format, ...] = ("json", "text", "verbose_json")  # how subtitles are cut depends on what follows
GRANULARITIES = ("segment", "word")
DEFAULT_GRANULARITY = "segment"  # some clients send it with every format
FILE = frozenset({"file"})
SAMPLES = frozenset({"audio_sample", "file"})
_COUNTED: Mapping[str, Kind] = {"track": "number", "channels": "number"}
_KINDS: Mapping[str, Kind] = {
    **_COUNTED,
    "diarize": "flag",
    "hotwords": "list",
    "include": "list",
    "keywords": "list",
    "known_speaker_names": "list",
    "known_speaker_references": "list",
    "languages": "list",
    "stream": "flag",
    "temperature": "number",
    "timestamp_granularities": "list",
}


class ParsedTranscription(msgspec.Struct, frozen=True):
    """What to write down, and how to tell it: `segments` and `words` are wanted in a `verbose_json`."""

    request: TranscriptionRequest
    format: Format
    segments: bool
    words: bool
    stream: bool
    ignored: tuple[str, ...]


class ParsedVoice(msgspec.Struct, frozen=True):
    """A voice to keep."""

    name: str
    path: str
    text: str
    consent: str
    ignored: tuple[str, ...]


def parse_listening(form: Form, trace: str, translate: bool) -> ParsedTranscription:
    """Raises `InvalidRequest` or `UnsupportedField`, naming the field. The model is as given, maybe ""."""
    checked = check(form, TRANSLATIONS if translate else TRANSCRIPTIONS, _KINDS, FILE)
    fields = checked.fields
    if fields.raw("response_format") == "diarized_json":
        message = "response_format diarized_json isn't supported: speakers aren't told apart. Take verbose_json."
        raise UnsupportedField(message, param="response_format")
    format = cast(Format, fields.one_of("response_format", FORMATS, "json"))
    granularities = _granularities(fields, format)
    stream = fields.flag("stream", False)
    request = TranscriptionRequest(
        model=fields.text("model", ""),
        path=_path(form, "file"),
        language=_language(fields),
        prompt=fields.text("prompt", ""),
        hotwords=_terms(fields),
        temperature=fields.number("temperature", 0.0, 0, 1),
        translate=translate,
        words="word" in granularities,
        script=None if translate else cast(Script | None, _script(fields)),
        streamed=stream and format in TOLD_EARLY,
        trace=trace,
        track=_track(fields),
        channels=channels(fields.raw("channels")),
        priority=priority(fields, "background"),
    )
    return ParsedTranscription(
        request,
        format,
        segments=not granularities or "segment" in granularities,
        words=request.words,
        stream=stream,
        ignored=checked.ignored,
    )


def parse_alignment(form: Form, trace: str) -> tuple[AlignRequest, tuple[str, ...]]:
    """As `parse_listening`; and the names in no table."""
    checked = check(form, ALIGNMENTS, _COUNTED, FILE)
    fields = checked.fields
    text = fields.text("text", "")
    if not text.strip():
        raise InvalidRequest("text is missing: give what is spoken in the file.", param="text")
    language = languages.parse(fields.text("language", ""))
    channel = channels(fields.raw("channels"))
    if channel == "separate":
        message = "channels can't be separate here, where one text is spoken: give mix, or the number of one."
        raise InvalidRequest(message, param="channels")
    request = AlignRequest(
        fields.text("model", ""),
        _path(form, "file"),
        text,
        language,
        trace,
        track=_track(fields),
        channel=None if channel == "mix" else channel,
        priority=priority(fields, "background"),
    )
    return request, checked.ignored


def parse_voice(form: Form) -> ParsedVoice:
    """As `parse_listening`."""
    checked = check(form, VOICES, {}, SAMPLES)
    name, consent = (_wanted(checked, field, why) for field, why in _VOICE_TEXTS.items())
    if len(form.files) > 1:
        raise InvalidRequest("file is sent besides audio_sample: send one recording.", param="file")
    sample = next(iter(form.files.keys() & SAMPLES), "audio_sample")
    return ParsedVoice(name, _path(form, sample), checked.fields.text("text", ""), consent, checked.ignored)


_VOICE_TEXTS = {
    "name": "give the name of the new voice",
    "consent": "say who agreed that this voice may be imitated",
}


def _wanted(checked: CheckedForm, name: str, why: str) -> str:
    text = checked.fields.text(name, "").strip()
    if not text:
        raise InvalidRequest(f"{name} is missing: {why}.", param=name)
    return text


def _path(form: Form, name: str) -> str:
    if name not in form.files:
        raise InvalidRequest(f'{name} is missing: send the recording, as in curl -F "{name}=@NAME".', param=name)
    return form.files[name].path


def _language(fields: FieldReader) -> str:
    several = [languages.parse(name, "languages") for name in fields.items("languages")]
    if len(set(several)) > 1:
        raise UnsupportedField("languages can't be several: give one, or leave it to the model.", param="languages")
    language = languages.parse(fields.text("language", ""))
    if several and language and several[0] != language:
        raise InvalidRequest("languages is another one than language: give one of them.", param="languages")
    return language or next(iter(several), "")


def _terms(fields: FieldReader) -> tuple[str, ...]:
    """Each term once, in order."""
    texts = [*fields.items("hotwords"), *fields.items("keywords")]
    terms = (term.strip() for text in texts for term in re.split(r"[,，、\n]", text))
    return tuple(dict.fromkeys(term for term in terms if term))


def _track(fields: FieldReader) -> int | None:
    return fields.whole("track", None, -MOST_COUNTED, MOST_COUNTED)  # the file says whether there is one


def _granularities(fields: FieldReader, format: Format) -> list[str]:
    given: list[str] = fields.items("timestamp_granularities")
    if not set(given) <= set(GRANULARITIES):
        raise fields.error("timestamp_granularities", "segment, word or both")
    if set(given) - {DEFAULT_GRANULARITY} and format != "verbose_json":
        wanted = f"left out where response_format is {format}: times of words are told in verbose_json"
        raise fields.error("timestamp_granularities", wanted)
    return given


def _script(fields: FieldReader) -> str | None:
    return fields.one_of("script", ("as-is", "traditional", "simplified"), None)
