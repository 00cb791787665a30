"""What is told of a recording: OpenAI's objects and events, and files of text and subtitles. Pure."""

import json
from collections.abc import Iterable, Sequence
from typing import assert_never

from engines.runner.whisper.figures import compression_ratio
from engines.text import languages, subtitles
from engines.types.audio import (
    Aligned,
    Segment,
    Transcript,
    TranscriptionEvent,
    TranscriptPart,
    TranscriptProgress,
    TranscriptText,
    Word,
)
from engines.types.common import Json, Started, Usage
from openai_compat.audio.transcription_fields import Format, ParsedTranscription

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "verbose_json": "application/json",
    "vtt": "text/vtt; charset=utf-8",
}
FRAMES_A_SECOND = 100  # Whisper's unit of `seek`


def whole(asked: ParsedTranscription, transcript: Transcript) -> str:
    """The body of an answer, in the format that was asked for. For a thread, as recordings may have hours."""
    match asked.format:
        case "json" | "verbose_json":
            return json.dumps(_object(asked, transcript), ensure_ascii=False, separators=(",", ":"))
        case "text":
            return transcript.text + "\n"
        case "srt":
            return subtitles.srt(subtitles.cues(transcript.segments))
        case "vtt":
            return subtitles.vtt(subtitles.cues(transcript.segments))
        case _:
            assert_never(asked.format)


def events(asked: ParsedTranscription, event: TranscriptionEvent) -> Iterable[Json]:
    """OpenAI's events for one of ours. All deltas joined are the text of the last event.

    How far it is, an empty delta tells: typed clients break off at an event of a type that OpenAI doesn't have. For a
    thread if it is a `Transcript`. Subtitles come in one delta at the end, for how they are cut depends on what
    follows.
    """
    subtitled = asked.format in ("srt", "vtt")
    match event:
        case Started() | TranscriptPart():
            return
        case TranscriptProgress():
            so_far = {"seconds": _rounded(event.seconds), "total": _rounded(event.total)}
            yield {"type": "transcript.text.delta", "delta": "", **so_far}
        case TranscriptText():
            if not subtitled:
                yield {"type": "transcript.text.delta", "delta": event.text}
        case Transcript():
            told = {**_object(asked, event), "usage": _tokens(event.usage)}
            if subtitled:
                told["text"] = whole(asked, event)
                yield {"type": "transcript.text.delta", "delta": told["text"]}
            yield {"type": "transcript.text.done", **told}
        case _:
            assert_never(event)


def aligned(found: Aligned) -> Json:
    """The answer to a text whose times were asked for."""
    return {
        "words": [_word(word) for word in found.words],
        **(_language(found.language) if found.language else {"language": None, "language_code": None}),
        "duration": _rounded(found.seconds),
        **({"timing": "approximate"} if found.approximate else {}),
        **_track(found),
    }


def _track(heard: Transcript | Aligned) -> Json:
    """Which of several audio tracks was heard."""
    return {"track": heard.track, "tracks": heard.tracks} if heard.tracks > 1 else {}


def _object(asked: ParsedTranscription, transcript: Transcript) -> Json:
    told = _verbose(asked, transcript) if asked.format == "verbose_json" else _brief(asked, transcript)
    told |= _track(transcript)
    told["usage"] = {"type": "duration", "seconds": _rounded(transcript.seconds)}
    if transcript.incomplete:
        told["incomplete"] = transcript.incomplete
    return told


def _tokens(usage: Usage) -> Json:
    """OpenAI's events count tokens where its whole answers count seconds."""
    return {
        "type": "tokens",
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _brief(asked: ParsedTranscription, transcript: Transcript) -> Json:
    language = _told_language(asked, transcript)
    return {"text": transcript.text, "languages": [{"code": language}] if language else []}


def _verbose(asked: ParsedTranscription, transcript: Transcript) -> Json:
    told: Json = {
        "task": "translate" if asked.request.translate else "transcribe",
        **_language(_told_language(asked, transcript)),
        "duration": _rounded(transcript.seconds),
        "text": transcript.text,
    }
    if any(segment.approximate for segment in transcript.segments):
        told["timing"] = "approximate"
    if asked.segments:
        told["segments"] = [_segment(number, one) for number, one in enumerate(transcript.segments)]
    if asked.words:
        told["words"] = _words(transcript.segments)
    return told


def _told_language(asked: ParsedTranscription, transcript: Transcript) -> str:
    """The code of the language that the text is in."""
    return "en" if asked.request.translate else transcript.language


def _language(code: str) -> Json:
    """OpenAI gives the English name; which languages those are isn't written anywhere, so there is the code too."""
    return {"language": languages.english_name(code).lower(), "language_code": code}


def _segment(number: int, segment: Segment) -> Json:
    """OpenAI's object, in which every figure is a number. There are no tokens to tell.

    A model that gives no logprob is taken at its word (0), and so is one that tells by its text alone that somebody
    speaks. How far a text can be compressed shows in the text.
    """
    ratio = compression_ratio(segment.text) if segment.compression_ratio is None else segment.compression_ratio
    told: Json = {
        "id": number,
        "seek": round(segment.start * FRAMES_A_SECOND),
        "start": _rounded(segment.start),
        "end": _rounded(segment.end),
        "text": segment.text,
        "tokens": [],
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob or 0.0,
        "compression_ratio": round(ratio, 4),
        "no_speech_prob": segment.no_speech_prob or 0.0,
    }
    if segment.approximate:
        told["timing"] = "approximate"
    if segment.looped:
        told["looped"] = True
    if segment.channel:
        told["channel"] = segment.channel
    return told


def _words(segments: Sequence[Segment]) -> list[Json]:
    return [
        {**_word(word), "channel": segment.channel} if segment.channel else _word(word)
        for segment in segments
        for word in segment.words
    ]


def _word(word: Word) -> Json:
    told: Json = {"word": word.text.strip(), "start": _rounded(word.start), "end": _rounded(word.end)}
    if word.probability is not None:
        told["probability"] = word.probability
    return told


def _rounded(seconds: float | None) -> float | None:
    """To a millisecond."""
    return None if seconds is None else round(seconds, 3)
