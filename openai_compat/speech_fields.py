"""Bodies of `/v1/audio/speech` → requests of `engines.audio_types`. Pure. What fields do: `audio_table.py`."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import cast

import msgspec

from engines.audio_types import VOICE_RATE, SoundFormat, SpeechRequest
from engines.errors import InvalidRequest
from engines.reading import LONGEST, Reader, decode_object
from engines.speech import languages
from openai_compat.audio_table import SPEECH
from openai_compat.form_fields import Checked, Kind, check
from openai_compat.multipart import Form

FORMATS: tuple[SoundFormat, ...] = ("wav", "mp3", "flac", "opus", "aac", "pcm")
STREAMED = frozenset({"mp3", "opus", "aac", "pcm"})  # if the request doesn't say
REFERENCE = frozenset({"reference_audio"})
_KINDS: Mapping[str, Kind] = {"sample_rate": "number", "seed": "number", "speed": "number", "stream": "flag"}
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")


class Speaking(msgspec.Struct, frozen=True):
    """What to speak, and how to send it. `reference` is the URL of a recording that is in the request itself."""

    request: SpeechRequest
    events: bool
    reference: str
    ignored: tuple[str, ...]


def parse_body(body: bytes, trace: str, longest: int) -> Speaking:
    """Of a JSON body. Raises `InvalidRequest`, naming the field; `longest` is the most characters of the text.

    The model is as given, maybe "".
    """
    fields = Reader(decode_object(body))
    return _speaking(Checked(fields, SPEECH.check(fields)), trace, longest, "")


def parse_form(form: Form, trace: str, longest: int) -> Speaking:
    """Of a multipart form, whose `reference_audio` is a file."""
    upload = form.files.get("reference_audio")
    return _speaking(check(form, SPEECH, _KINDS, REFERENCE), trace, longest, upload.path if upload else "")


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


def _speaking(checked: Checked, trace: str, longest: int, reference_path: str) -> Speaking:
    fields = checked.fields
    url = _reference(fields)
    imitates = bool(url or reference_path)
    format = cast(SoundFormat, fields.one_of("response_format", FORMATS, "wav"))
    request = SpeechRequest(
        model=fields.text("model", ""),
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
    )
    events = fields.one_of("stream_format", ("audio", "sse"), "audio") == "sse"
    return Speaking(request, events, url, checked.ignored)


def _input(fields: Reader, longest: int) -> str:
    text = fields.text("input", "")
    if not text:
        raise InvalidRequest("input is missing: give the text to speak.", param="input")
    if len(text) > longest:
        raise InvalidRequest(
            f"input has {len(text)} characters; at most {longest} are spoken in a request. Send it in parts.",
            param="input",
        )
    return text


def _voice(fields: Reader, imitates: bool) -> str:
    """A name, or OpenAI's object with one."""
    value = fields.raw("voice")
    name = fields.object("voice").text("id", "") if isinstance(value, dict) else fields.text("voice", "")
    if isinstance(value, dict) and not name:
        raise InvalidRequest("voice.id must be the name of a voice.", param="voice.id")
    if name and imitates:
        raise InvalidRequest("voice must be left out or empty where reference_audio is given.", param="voice")
    return name


def _reference(fields: Reader) -> str:
    url = fields.text("reference_audio", "")
    if url and not _DATA_URL.match(url):
        wanted = "a data: URL with the recording in base64, or an upload; paths and links aren't followed"
        raise fields.error("reference_audio", wanted)
    return url


def _reference_text(fields: Reader, imitates: bool) -> str:
    text = fields.text("reference_text", "")
    if text and not imitates:
        raise InvalidRequest(
            "reference_text says what reference_audio holds: give that too, or neither.", param="reference_text"
        )
    return text
