"""The tool `transcribe`: a recording on this computer → its text, as such or as subtitles."""

import asyncio
from collections.abc import Mapping
from typing import Any

import mcp_types as mcp
import msgspec

from engines.text import languages, subtitles
from engines.types.audio import Transcript, TranscriptionRequest, TranscriptProgress
from engines.types.errors import InvalidRequest
from engines.types.field_reader import channels
from engines.types.streams import last
from mcp_server import client_paths
from mcp_server.tools.arguments import Value
from mcp_server.tools.progress import ProgressMeter
from mcp_server.tools.tool import Context, McpTool

# A longer text goes into a file: hosts cut long results, or refuse them.
LONGEST_ANSWER = 20_000
HEAD = 1_500
FORMATS = ("text", "srt", "vtt")
SCRIPTS = ("as-is", "traditional", "simplified")


TRANSCRIBE = mcp.Tool(
    name="transcribe",
    title="Transcribe a recording",
    description=(
        "Write down what is spoken in an audio or video file on this computer, offline; Cantonese, Mandarin, English "
        "and many more, of any length. Answers with the text; a long one goes into a file, whose path is given."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "Absolute path of the recording: wav, mp3, m4a, mp4, ogg, …"},
            "language": {
                "type": "string",
                "description": "Code or name, such as yue, zh, en or Cantonese; the model tells it if absent.",
            },
            "prompt": {"type": "string", "description": "Names and terms that come up, or what it is about."},
            "output_format": {"type": "string", "description": f"{', '.join(FORMATS)}; text if absent."},
            "script": {
                "type": "string",
                "description": f"For Chinese: {', '.join(SCRIPTS)}. What is configured if absent.",
            },
            "track": {
                "type": "integer",
                "description": "Which audio track of the file, counted from 1; the default one with sound if absent.",
            },
            "channels": {
                "type": "string",
                "description": "mix, if absent; separate, to write down each channel; or the number of one, from 1.",
            },
            "output_path": {
                "type": "string",
                "description": "Absolute path of a new file (.txt, .srt or .vtt) for the result. Never overwritten.",
            },
            "model": {"type": "string", "description": "Name of a model that transcribes, see models."},
        },
        "required": ["path"],
    },
    annotations=mcp.ToolAnnotations(
        title="Transcribe a recording", read_only_hint=False, destructive_hint=False, open_world_hint=False
    ),
)


class TranscribeTool(McpTool):
    schema = TRANSCRIBE

    def parse(self, given: Mapping[str, Any] | None) -> dict[str, Value]:
        """A channel's number may be a number: the schema has one type a property."""
        numbers = {
            name: str(value) for name, value in (given or {}).items() if name == "channels" and type(value) is int
        }
        return super().parse({**(given or {}), **numbers})

    async def call(self, given: Mapping[str, Value], context: Context) -> mcp.CallToolResult:
        options = context.options
        format = _one_of(given, "output_format", FORMATS) or "text"
        suffix = {"text": ".txt"}.get(format, f".{format}")
        recording = await asyncio.to_thread(options.access.to_read, str(given["path"]), "path")
        try:
            target = None
            if "output_path" in given:
                target = await asyncio.to_thread(
                    options.access.to_write, str(given["output_path"]), "output_path", suffix
                )
            transcript = await _transcript(context, _request(context, given, str(recording.path)))
        finally:
            await asyncio.to_thread(recording.close)
        text = await asyncio.to_thread(_rendered, transcript, format)
        create = options.access.create
        if target is None and len(text) > LONGEST_ANSWER:
            target, create = options.files / f"{client_paths.slug(recording.stem)}{suffix}", client_paths.create
        if target is None:
            return _result(text or "[nothing is spoken in this recording]", transcript, None)
        written = await asyncio.to_thread(create, target, text.encode())
        head = text[:HEAD] + ("\n[…]" if len(text) > HEAD else "")
        return _result(f"{head}\n\nThe whole result, {len(text)} characters, is in {written}", transcript, str(written))


async def _transcript(context: Context, request: TranscriptionRequest) -> Transcript:
    meter = ProgressMeter(context.progress)

    async def told(event: object) -> None:
        if isinstance(event, TranscriptProgress):
            await meter.reach(event.seconds, event.total)

    return await last(context.inference.transcribe(request), Transcript, told)


def _request(context: Context, given: Mapping[str, Value], path: str) -> TranscriptionRequest:
    script: Any = _one_of(given, "script", SCRIPTS)
    return TranscriptionRequest(
        model=str(given.get("model", context.options.transcription_model)),
        path=path,
        language=languages.parse(str(given.get("language", ""))),
        prompt=str(given.get("prompt", "")),
        script=script,
        tenant=context.options.tenant,
        track=int(given["track"]) if "track" in given else None,
        channels=channels(given.get("channels")),
        trace=context.trace,
    )


def _rendered(transcript: Transcript, format: str) -> str:
    if format == "text":
        return transcript.text
    cues = subtitles.cues(transcript.segments)
    return subtitles.srt(cues) if format == "srt" else subtitles.vtt(cues)


def _result(text: str, transcript: Transcript, path: str | None) -> mcp.CallToolResult:
    blocks: list[mcp.ContentBlock] = [mcp.TextContent(type="text", text=text)]
    meta: dict[str, Any] = {"seconds": transcript.seconds, "language": transcript.language}
    if transcript.tracks > 1:
        meta |= {"track": transcript.track, "tracks": transcript.tracks}
    if path is not None:
        meta["path"] = path
    if transcript.incomplete:
        blocks.append(mcp.TextContent(type="text", text=f"[incomplete: {' '.join(transcript.incomplete)}]"))
        meta["incomplete"] = msgspec.to_builtins(transcript.incomplete)
    return mcp.CallToolResult(content=blocks, _meta=meta)


def _one_of(given: Mapping[str, Value], name: str, values: tuple[str, ...]) -> str | None:
    if name not in given:
        return None
    if given[name] not in values:
        raise InvalidRequest(f"The argument {name} must be one of {', '.join(values)}.", param=name)
    return str(given[name])
