"""Bodies of `/v1/audio/speech` → requests of `engines.types.audio`. Pure. What fields do: `audio_table.py`."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import cast

import msgspec

from engines.text import languages
from engines.types.audio import VOICE_RATE, SoundFormat, SpeechRequest
from engines.types.errors import InvalidRequest, UnsupportedField
from engines.types.field_reader import LONGEST, FieldReader, decode_object
from http_server.multipart import Form
from openai_compat.audio.form_fields import CheckedForm, Kind, check
from openai_compat.audio.table import ABOUT_SOUND, SPEECH, SPEECH_ALIASES
from openai_compat.names import OPENAI_SPEAKS
from openai_compat.service_tier import priority

FORMATS: tuple[SoundFormat, ...] = ("wav", "mp3", "flac", "opus", "aac", "pcm")
STREAMED = frozenset({"mp3", "opus", "aac", "pcm"})  # if the request doesn't say
# What a recording of a voice may be called, of which one is sent.
REFERENCE = frozenset(
    {"reference_audio", *(name for name, ours in SPEECH_ALIASES.items() if ours == "reference_audio")}
)
_NUMBERS = "sample_rate sampling_rate seed speed pitch volume top_p top_k min_p repetition_penalty".split()
_FLAGS = "stream x_vector_only_mode return_timestamps timestamps return_download_link".split()
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(_NUMBERS, "number"),
    **dict.fromkeys(_FLAGS, "flag"),
    "references": "list",
}
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")


class ParsedSpeech(msgspec.Struct, frozen=True):
    """What to speak, and how to send it. `reference` is the URL of a recording that is in the request itself."""

    request: SpeechRequest
    events: bool
    reference: str
    ignored: tuple[str, ...]


def parse_body(body: bytes, trace: str, longest: int) -> ParsedSpeech:
    """Of a JSON body. Raises `InvalidRequest`, naming the field; `longest` is the most characters of the text.

    The model is as given, maybe "".
    """
    fields = FieldReader(decode_object(body))
    return _speaking(CheckedForm(fields, SPEECH.check(fields)), trace, longest, "")


def parse_form(form: Form, trace: str, longest: int) -> ParsedSpeech:
    """Of a multipart form, whose recording of a voice is a file."""
    uploads = sorted(form.files.keys() & REFERENCE)
    if len(uploads) > 1:
        raise InvalidRequest(f"{uploads[1]} is sent besides {uploads[0]}: send one recording.", param=uploads[1])
    path = form.files[uploads[0]].path if uploads else ""
    return _speaking(check(form, SPEECH, _KINDS, REFERENCE), trace, longest, path)


def recording_of(url: str) -> bytes:
    """What a `data:` URL holds. Raises `InvalidRequest`."""
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("reference_audio holds no valid base64.", param="reference_audio") from None


def media_type(request: SpeechRequest) -> str:
    """Of the file that is made."""
    if request.format == "pcm":
        return f"audio/pcm;rate={request.sample_rate or VOICE_RATE};channels=1"
    types = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "aac": "audio/aac"}
    return types.get(request.format, "audio/ogg;codecs=opus")


def _speaking(checked: CheckedForm, trace: str, longest: int, reference_path: str) -> ParsedSpeech:
    for name in checked.ignored:
        if ABOUT_SOUND.search(name):
            known = "voice, instructions, speed, reference_audio (references/http.md lists all)"
            message = f"{name} isn't known here, and would change how it sounds; leave it out. Known: {known}."
            raise UnsupportedField(message, param=name)
    given = _names_given(checked.fields)
    fields = FieldReader({name: checked.fields.raw(as_given) for name, as_given in given.items()})
    try:
        request = _request(fields, trace, longest, reference_path)
        events = fields.one_of("stream_format", ("audio", "sse"), "audio") == "sse"
    except InvalidRequest as error:
        ours, _, within = (error.param or "").partition(".")
        if (as_given := given.get(ours, ours)) == ours:
            raise
        place = f"{as_given}.{within}" if within else as_given
        raise InvalidRequest(f"{as_given} stands for {ours} here. {error.message}", param=place) from error
    return ParsedSpeech(request, events, _reference(fields), checked.ignored)


def _names_given(fields: FieldReader) -> Mapping[str, str]:
    """Our name of each field that is given → the name by which it is."""
    given: dict[str, str] = {}
    for name in sorted(fields.names, key=lambda name: (name in SPEECH_ALIASES, name)):
        before = given.setdefault(SPEECH_ALIASES.get(name, name), name)
        if fields.raw(before) != fields.raw(name):
            raise InvalidRequest(f"{name} is another than {before}, and means the same: give one.", param=name)
    return given


def _request(fields: FieldReader, trace: str, longest: int, reference_path: str) -> SpeechRequest:
    imitates = bool(_reference(fields) or reference_path)
    model = fields.text("model", "")
    usual = "mp3" if model.lower() in OPENAI_SPEAKS else "wav"
    format = cast(SoundFormat, fields.one_of("response_format", FORMATS, usual))
    return SpeechRequest(
        model=model,
        text=_input(fields, longest),
        voice=_voice(fields, imitates),
        language=languages.parse(fields.text("language", "")),
        instructions=fields.text("instructions", ""),
        speed=fields.number("speed", 1.0, 0.25, 4),
        format=format,
        streamed=fields.flag("stream", format in STREAMED),
        sample_rate=fields.whole("sample_rate", None, 8000, 96000),
        seed=fields.whole("seed", None, -LONGEST),
        reference_path=reference_path,
        reference_text=_reference_text(fields, imitates),
        trace=trace,
        priority=priority(fields, "interactive"),
    )


def _input(fields: FieldReader, longest: int) -> str:
    text = fields.text("input", "")
    if not text:
        raise InvalidRequest("input is missing: give the text to speak.", param="input")
    if len(text) > longest:
        raise InvalidRequest(
            f"input has {len(text)} characters; at most {longest} are spoken in a request. Send it in parts.",
            param="input",
        )
    return text


def _voice(fields: FieldReader, imitates: bool) -> str:
    """A name, or OpenAI's object with one."""
    if not isinstance(fields.raw("voice"), dict):
        name = fields.text("voice", "")
    else:
        voice = fields.object("voice")
        for other in sorted(voice.names - {"id"}):
            raise UnsupportedField(f"voice.{other} isn't known: voice has an id alone.", param=f"voice.{other}")
        if not (name := voice.text("id", "")):
            raise InvalidRequest("voice.id must be the name of a voice.", param="voice.id")
    if name and imitates:
        raise InvalidRequest("voice must be left out or empty where reference_audio is given.", param="voice")
    return name


def _reference(fields: FieldReader) -> str:
    url = fields.text("reference_audio", "")
    if url and not _DATA_URL.match(url):
        wanted = (
            "a data: URL with the recording in base64, or an upload; paths and links aren't followed. A voice that is "
            "used often can be stored by POST /v1/audio/voices and then be given as voice"
        )
        raise fields.error("reference_audio", wanted)
    return url


def _reference_text(fields: FieldReader, imitates: bool) -> str:
    text = fields.text("reference_text", "")
    if text and not imitates:
        raise InvalidRequest(
            "reference_text says what reference_audio holds: give that too, or neither.", param="reference_text"
        )
    return text
