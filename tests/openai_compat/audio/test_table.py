import base64
import inspect
import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from openai.types.audio import (
    speech_create_params,
    speech_model,
    transcription_create_params,
    translation_create_params,
    voice_create_params,
)
from openai.types.audio_model import AudioModel

from engines.types.audio import AlignRequest, SpeechRequest, TranscriptionRequest
from engines.types.errors import InvalidRequest, UnsupportedField
from http_server.multipart import Form, Upload
from openai_compat.audio.speech_fields import FORMATS, ParsedSpeech, parse_body, parse_form, recording_of
from openai_compat.audio.table import ALIGNMENTS, SPEECH, SPEECH_ALIASES, TRANSCRIPTIONS, TRANSLATIONS, VOICES
from openai_compat.audio.transcription_fields import (
    ParsedTranscription,
    ParsedVoice,
    parse_alignment,
    parse_listening,
    parse_voice,
)
from openai_compat.chat.table import Table
from openai_compat.names import OPENAI_LISTENS, OPENAI_SPEAKS
from tests.promises import promise

DATA_URL = "data:audio/wav;base64," + base64.b64encode(b"RIFF").decode()


def form(**texts: Any) -> Form:
    """A text, or a list of them, for each name; `files` are names with paths."""
    files: dict[str, str] = texts.pop("files", {"file": "/spool/1"})
    listed = {name: value if isinstance(value, list) else [str(value)] for name, value in texts.items()}
    return Form(listed, {name: Upload(path, 4) for name, path in files.items()})


def listening(**texts: Any) -> ParsedTranscription:
    return parse_listening(form(**{"model": "m", **texts}), "t", translate=False)


def translating(**texts: Any) -> ParsedTranscription:
    return parse_listening(form(**{"model": "m", **texts}), "t", translate=True)


def aligning(**texts: Any) -> tuple[AlignRequest, tuple[str, ...]]:
    return parse_alignment(form(**{"model": "m", "text": "hello", **texts}), "t")


def speaking(**fields: Any) -> ParsedSpeech:
    return parse_body(json.dumps({"model": "m", "input": "hello", **fields}).encode(), "t", 1000)


def storing(**texts: Any) -> ParsedVoice:
    return parse_voice(form(**{"name": "ann", "consent": "Ann agreed.", **texts}))


# -- the tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "references"),
    [
        (TRANSCRIPTIONS, [transcription_create_params.TranscriptionCreateParamsBase]),
        (TRANSLATIONS, [translation_create_params.TranslationCreateParams]),
        (SPEECH, [speech_create_params.SpeechCreateParams]),
        (VOICES, [voice_create_params.CreateVoiceRequestAudioSample, voice_create_params.CreateVoiceRequestPrompt]),
    ],
    ids=["transcriptions", "translations", "speech", "voices"],
)
def test_every_field_of_openais_reference_is_in_exactly_one_class(table: Table, references: list[type]) -> None:
    classes = [table.acts.keys(), table.refused.keys(), table.without_effect.keys()]
    for name in {name for reference in references for name in inspect.get_annotations(reference)}:
        assert sum(name in one for one in classes) == 1, name


def test_every_model_of_openais_reference_has_a_name_here() -> None:
    assert set(get_args(AudioModel)) <= OPENAI_LISTENS
    assert set(get_args(speech_model.SpeechModel)) <= OPENAI_SPEAKS


LISTENING_ACTS: dict[str, dict[str, Any]] = {
    "file": {"files": {"file": "/spool/2"}},
    "model": {"model": "other"},
    "language": {"language": "Cantonese"},
    "languages": {"languages[]": ["yue"]},
    "prompt": {"prompt": "Names: Ann."},
    "hotwords": {"hotwords": ["Ann, Bo"]},
    "keywords": {"keywords[]": ["Ann"]},
    "temperature": {"temperature": "0.4"},
    "response_format": {"response_format": "srt"},
    "timestamp_granularities": {"response_format": "verbose_json", "timestamp_granularities[]": ["word"]},
    "stream": {"stream": "true"},
    "script": {"script": "traditional"},
    "track": {"track": "2"},
    "channels": {"channels": "separate"},
    "service_tier": {"service_tier": "priority"},
}
SPEECH_ACTS: dict[str, dict[str, Any]] = {
    "model": {"model": "other"},
    "input": {"input": "bye"},
    "voice": {"voice": "serena"},
    "instructions": {"instructions": "slowly"},
    "language": {"language": "zh-HK"},
    "speed": {"speed": 2},
    "response_format": {"response_format": "mp3"},
    "sample_rate": {"sample_rate": 16000},
    "stream_format": {"stream_format": "sse"},
    "stream": {"stream": True},
    "seed": {"seed": 7},
    "reference_audio": {"reference_audio": DATA_URL},
    "reference_text": {"reference_audio": DATA_URL, "reference_text": "what is said"},
    "service_tier": {"service_tier": "flex"},
}
SPEECH_ACTS |= {alias: {**SPEECH_ACTS[name], alias: SPEECH_ACTS[name][name]} for alias, name in SPEECH_ALIASES.items()}
for alias, name in SPEECH_ALIASES.items():
    del SPEECH_ACTS[alias][name]
OTHER_ACTS: list[tuple[Callable[..., Any], Table, dict[str, dict[str, Any]]]] = [
    (
        aligning,
        ALIGNMENTS,
        {
            "file": {"files": {"file": "/spool/2"}},
            "model": {"model": "other"},
            "text": {"text": "bye"},
            "language": {"language": "French"},
            "track": {"track": "2"},
            "channels": {"channels": "2"},
            "service_tier": {"service_tier": "priority"},
        },
    ),
    (
        storing,
        VOICES,
        {
            "name": {"name": "bo"},
            "file": {"files": {"file": "/spool/2"}},
            "audio_sample": {"files": {"audio_sample": "/spool/2"}},
            "text": {"text": "what is said"},
            "consent": {"consent": "Ann agreed on Monday."},
        },
    ),
]
ACTS = [
    *((listening, name, LISTENING_ACTS[name]) for name in sorted(TRANSCRIPTIONS.acts)),
    *((translating, name, LISTENING_ACTS[name]) for name in sorted(TRANSLATIONS.acts)),
    *((speaking, name, SPEECH_ACTS[name]) for name in sorted(SPEECH.acts)),
    *((parse, name, acts[name]) for parse, table, acts in OTHER_ACTS for name in sorted(table.acts)),
]


@promise("audio:fields:classes")
@pytest.mark.parametrize(("parse", "name", "fields"), ACTS)
def test_what_acts_changes_what_the_engine_gets(parse: Callable[..., Any], name: str, fields: dict[str, Any]) -> None:
    assert parse(**fields) != parse()


REFUSED: list[Any] = [
    (listening, TRANSCRIPTIONS),
    (translating, TRANSLATIONS),
    (speaking, SPEECH),
    (storing, VOICES),
]


@promise("audio:fields:classes")
@pytest.mark.parametrize(("parse", "table"), REFUSED)
def test_what_is_refused_is_refused_by_name(parse: Callable[..., Any], table: Table) -> None:
    for name in table.refused:
        with pytest.raises(UnsupportedField) as caught:
            parse(**{name: "something"})
        assert caught.value.param == name


@pytest.mark.parametrize(
    "neutral", [{"chunking_strategy": "auto"}, {"diarize": "false"}, {"include[]": []}, {"known_speaker_names[]": []}]
)
def test_what_is_refused_may_have_its_neutral_value(neutral: dict[str, Any]) -> None:
    assert listening(**neutral) == listening()


@pytest.mark.parametrize(
    "fields",
    [
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "0.5"},
        {"include[]": ["logprobs"]},
        {"diarize": "true"},
        {"response_format": "diarized_json"},
        {"languages[]": ["en", "zh"]},
    ],
)
def test_speakers_and_what_else_isnt_built_is_refused_as_clients_write_it(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedField) as caught:
        listening(**fields)
    assert caught.value.param == next(iter(fields)).partition("[")[0]


def test_an_empty_text_of_a_form_means_not_given() -> None:
    assert listening(**dict.fromkeys(TRANSCRIPTIONS.acts.keys() - {"file", "model"}, "")) == listening()


def test_null_means_not_given_for_every_optional_field_of_speech() -> None:
    assert speaking(**dict.fromkeys(SPEECH.acts.keys() - {"model", "input"})) == speaking()


@pytest.mark.parametrize("parse", [listening, translating, speaking, storing])
def test_names_in_no_reference_are_told_back(parse: Callable[..., Any]) -> None:
    assert parse(zebra="1").ignored == ("zebra",)


def test_a_file_that_nobody_asked_for_is_told_back_and_one_for_a_text_is_refused() -> None:
    sent = form(model="m")
    assert parse_listening(Form(sent.texts, sent.files, ("zebra",)), "t", translate=False).ignored == ("zebra",)
    with pytest.raises(InvalidRequest) as caught:
        parse_listening(Form({}, sent.files, ("model",)), "t", translate=False)
    assert caught.value.param == "model"


# -- values -------------------------------------------------------------------------------------------------------


def test_everything_given_reaches_the_model() -> None:
    asked = listening(
        language="Cantonese",
        prompt="Names: Ann.",
        temperature="0.2",
        response_format="verbose_json",
        script="simplified",
        **{"timestamp_granularities[]": ["segment", "word"], "hotwords[]": ["港鐵、銅鑼灣", "Ann, Bo", "Ann"]},
    )
    assert asked == ParsedTranscription(
        TranscriptionRequest(
            model="m",
            path="/spool/1",
            language="yue",
            prompt="Names: Ann.",
            hotwords=("港鐵", "銅鑼灣", "Ann", "Bo"),
            temperature=0.2,
            words=True,
            script="simplified",
            trace="t",
        ),
        "verbose_json",
        segments=True,
        words=True,
        stream=False,
        ignored=(),
    )


@pytest.mark.parametrize(("format", "early"), [("json", True), ("verbose_json", True), ("text", True), ("srt", False)])
def test_text_is_wanted_early_by_a_stream_of_text_alone(format: str, early: bool) -> None:
    assert listening(response_format=format, stream="true").request.streamed is early
    assert not listening(response_format=format).request.streamed


def test_a_translation_is_asked_for_as_one() -> None:
    assert translating().request.translate and not listening().request.translate


def test_a_task_is_what_the_route_does_or_is_refused() -> None:
    assert listening(task="transcribe") == listening() and translating(task="translate") == translating()
    for parse, other in ((listening, "translate"), (translating, "transcribe")):
        with pytest.raises(UnsupportedField, match="task"):
            parse(task=other)


@pytest.mark.parametrize(
    ("granularities", "segments", "words"),
    [([], True, False), (["segment"], True, False), (["word"], False, True), (["word", "segment"], True, True)],
)
def test_segments_are_told_unless_words_alone_are_wanted(granularities: list[str], segments: bool, words: bool) -> None:
    asked = listening(response_format="verbose_json", **{"timestamp_granularities[]": granularities})
    assert (asked.segments, asked.words, asked.request.words) == (segments, words, words)


@pytest.mark.parametrize("format", ["json", "text", "srt", "vtt"])
def test_the_default_granularity_may_be_given_with_any_format_and_words_may_not(format: str) -> None:
    given = {"timestamp_granularities[]": ["segment"]}
    assert listening(response_format=format, **given) == listening(response_format=format)
    with pytest.raises(InvalidRequest, match="verbose_json"):
        listening(response_format=format, **{"timestamp_granularities[]": ["segment", "word"]})


@pytest.mark.parametrize("repeated", [{"timestamp_granularities": ["word"]}, {"timestamp_granularities[]": ["word"]}])
def test_a_list_is_one_with_and_without_brackets(repeated: dict[str, Any]) -> None:
    assert listening(response_format="verbose_json", **repeated).words


BAD_FORMS: dict[str, list[Any]] = {
    "language": ["Klingon", "xx", ["en", "zh"]],
    "languages": [["xx"]],
    "temperature": ["-0.1", "1.1", "hot", "nan", "inf", "1_0", ".", "0.1\x00"],
    "response_format": ["xml", "JSON"],
    "timestamp_granularities": [["word"], ["letter"]],
    "stream": ["yes", "2"],
    "script": ["latin"],
    "model": [["a", "b"]],
}


@promise("audio:fields:named")
@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD_FORMS.items() for value in values]
)
def test_a_bad_value_of_a_form_is_refused_by_the_fields_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        listening(**{field: value})
    assert caught.value.param == field


def test_an_unknown_language_is_refused_with_the_known() -> None:
    with pytest.raises(InvalidRequest, match="yue"):
        listening(language="Klingon")


@pytest.mark.parametrize(
    ("parse", "fields", "param"),
    [
        (aligning, {"text": " "}, "text"),
        (storing, {"name": ""}, "name"),
        (storing, {"consent": "  "}, "consent"),
        (storing, {"files": {"file": "a", "audio_sample": "b"}}, "file"),
        (storing, {"files": {"other": "a"}}, "audio_sample"),
        (listening, {"files": {"other": "a"}}, "file"),
        (listening, {"language": "en", "languages[]": ["zh"]}, "languages"),
        (listening, {"model": "m", "model[x]": "y"}, "model"),
    ],
)
def test_what_is_missing_or_contradicts_is_named(parse: Callable[..., Any], fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


BAD_SPEECH: dict[str, list[Any]] = {
    "input": ["", None, 5, "x" * 1001],
    "voice": [5, ["serena"]],
    "voice.id": [{}],
    "speed": [0, -1, 0.24, 4.1, "fast", True],
    "response_format": ["ogg", 3],
    "sample_rate": [7999, 96001, 16000.5, "high"],
    "stream_format": ["events"],
    "stream": ["yes", 1],
    "seed": ["x", 2**64],
    "language": ["Klingon", 5],
    "instructions": [5],
    "reference_audio": ["/etc/passwd", "file:///etc/passwd", "https://x/y.wav", "data:audio/wav,RIFF", 5],
    "reference_text": ["said in nothing"],
}


@promise("audio:fields:named")
@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD_SPEECH.items() for value in values]
)
def test_a_bad_value_of_speech_is_refused_by_the_fields_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        speaking(**{field.partition(".")[0]: value})
    assert caught.value.param == field


def test_a_number_that_is_none_is_no_json() -> None:
    with pytest.raises(InvalidRequest):
        parse_body(b'{"model": "m", "input": "x", "speed": NaN}', "t", 1000)


@pytest.mark.parametrize(
    ("fields", "streamed"),
    [
        ({}, False),
        *[({"response_format": name}, name not in ("wav", "flac")) for name in "wav mp3 flac opus aac pcm".split()],
        ({"response_format": "wav", "stream": True}, True),
        ({"response_format": "mp3", "stream": False}, False),
    ],
)
def test_what_can_be_sent_as_it_is_made_is_unless_the_request_says_otherwise(
    fields: dict[str, Any], streamed: bool
) -> None:
    assert speaking(**fields).request.streamed == streamed


def test_a_voice_is_a_name_or_openais_object() -> None:
    assert speaking(voice={"id": "ann"}).request.voice == speaking(voice="ann").request.voice == "ann"


@promise("audio:names:mp3")
@pytest.mark.parametrize("model", [*sorted(OPENAI_SPEAKS), "TTS-1"])
def test_openais_names_of_models_speak_mp3_where_no_format_is_named_and_ours_wav(model: str) -> None:
    assert (speaking(model=model).request.format, speaking(model=model).request.streamed) == ("mp3", True)
    assert speaking(model=model, response_format=None).request.format == "mp3"
    for format in FORMATS:
        assert speaking(model=model, response_format=format).request.format == format
    for ours in ("", "qwen3-tts", "Qwen3-TTS-12Hz-1.7B-CustomVoice-8bit", "my-tts-1"):
        assert (speaking(model=ours).request.format, speaking(model=ours).request.streamed) == ("wav", False)


@promise("audio:fields:other-servers")
@pytest.mark.parametrize(("alias", "name"), SPEECH_ALIASES.items())
def test_a_field_by_another_servers_name_is_that_field_and_named_as_it_was_given(alias: str, name: str) -> None:
    fields = {**SPEECH_ACTS[name]}
    renamed = {alias if field == name else field: value for field, value in fields.items()}
    assert speaking(**renamed) == speaking(**fields) and speaking(**renamed) != speaking()
    assert speaking(**fields, **{alias: fields[name]}) == speaking(**fields)
    for wrong in BAD_SPEECH[name]:
        with pytest.raises(InvalidRequest, match=alias) as caught:
            speaking(**{alias: wrong})
        assert caught.value.param == alias
    with pytest.raises(InvalidRequest, match="give one") as caught:
        speaking(**fields, **{alias: "another"})
    assert caught.value.param == alias


@promise("audio:fields:other-servers")
@pytest.mark.parametrize(
    "name",
    "speaker_id spk_audio_prompt voice_sample clone_audio reference_wav voice_clone_prompt emo_vector gender "
    "speech_rate pitch_shift volume_multiplier style_weight speed_factor language_id bit_rate cfg_strength".split(),
)
def test_what_would_change_the_voice_is_refused_by_name_whatever_server_it_is_from(name: str) -> None:
    with pytest.raises(UnsupportedField, match=name) as caught:
        speaking(**{name: "something"})
    assert caught.value.param == name
    assert speaking(**{name: None}) == speaking()


def test_one_recording_of_a_voice_is_sent_by_whichever_name() -> None:
    sent = form(files={"ref_audio": "/spool/1"}, input="hello", ref_text="what is said")
    request = parse_form(sent, "t", 1000).request
    assert (request.reference_path, request.reference_text) == ("/spool/1", "what is said")
    with pytest.raises(InvalidRequest, match="one recording") as caught:
        parse_form(form(files={"ref_audio": "/spool/1", "speaker_wav": "/spool/2"}, input="hello"), "t", 1000)
    assert caught.value.param == "speaker_wav"


def test_an_object_of_a_voice_holds_its_id_alone() -> None:
    with pytest.raises(UnsupportedField) as caught:
        speaking(voice={"id": "ann", "weight": 0.5})
    assert caught.value.param == "voice.weight"


def test_a_reference_takes_the_place_of_a_voice() -> None:
    assert speaking(reference_audio=DATA_URL, voice="").reference == DATA_URL
    with pytest.raises(InvalidRequest) as caught:
        speaking(reference_audio=DATA_URL, voice="serena")
    assert caught.value.param == "voice"


def test_a_form_of_speech_reads_as_json_does() -> None:
    sent = form(files={"reference_audio": "/spool/1"}, input="hello", speed="2", seed="7", stream="true")
    assert parse_form(sent, "t", 1000).request == SpeechRequest(
        model="", text="hello", speed=2.0, seed=7, streamed=True, reference_path="/spool/1", trace="t"
    )


def test_the_recording_of_a_data_url_is_decoded_strictly() -> None:
    assert recording_of(DATA_URL) == b"RIFF"
    for broken in ("data:;base64,a", "data:;base64,a b=", "data:;base64,é"):
        with pytest.raises(InvalidRequest, match="base64"):
            recording_of(broken)
