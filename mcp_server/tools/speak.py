"""The tool `speak`: text → a sound file on this computer."""

import asyncio
from collections.abc import Mapping
from typing import Any, get_args

import mcp_types as mcp
import msgspec

from engines.synthesis.model_choice import speaker
from engines.text import languages
from engines.text.speakable import LONGEST_TEXT
from engines.types.audio import SoundFormat, SpeechData, SpeechDone, SpeechProgress, SpeechRequest
from engines.types.errors import InvalidRequest
from engines.types.streams import last
from mcp_server import client_paths
from mcp_server.tools.arguments import Value
from mcp_server.tools.progress import ProgressMeter
from mcp_server.tools.tool import Context, McpTool

FORMATS: tuple[SoundFormat, ...] = get_args(SoundFormat)
SUFFIXES: Mapping[SoundFormat, str] = {"opus": ".ogg"}


SPEAK = mcp.Tool(
    name="speak",
    title="Speak a text",
    description=(
        f"Make a sound file of a text of up to {LONGEST_TEXT} characters, offline, in a natural voice. Answers with "
        "the path of the file."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What to speak."},
            "voice": {
                "type": "string",
                "description": "Name of a voice, stored ones too; the model's first if absent.",
            },
            "language": {
                "type": "string",
                "description": "Code or name of the text's language; the model tells it by itself if absent.",
            },
            "instructions": {"type": "string", "description": "In what manner: slowly, cheerful, whispering, …"},
            "speed": {"type": "number", "description": "0.25 to 4; 1 if absent."},
            "output_format": {"type": "string", "description": f"{', '.join(FORMATS)}; wav if absent."},
            "output_path": {
                "type": "string",
                "description": "Absolute path of a new file for the sound, never overwritten.",
            },
            "model": {"type": "string", "description": "Name of a model that speaks, see models."},
        },
        "required": ["text"],
    },
    annotations=mcp.ToolAnnotations(
        title="Speak a text", read_only_hint=False, destructive_hint=False, open_world_hint=False
    ),
)


class SpeakTool(McpTool):
    schema = SPEAK

    async def call(self, given: Mapping[str, Value], context: Context) -> mcp.CallToolResult:
        inference, options = context.inference, context.options
        request = _request(given, context.trace)
        if len(request.text) > LONGEST_TEXT:
            message = f"The argument text has {len(request.text)} characters; a call speaks at most {LONGEST_TEXT}."
            raise InvalidRequest(f"{message} Speak it in parts.", param="text")
        suffix = SUFFIXES.get(request.format, f".{request.format}")
        if not request.model:
            model = await speaker(
                inference, options.speech_model, options.imitation_model, request.voice, reference=False
            )
            request = msgspec.structs.replace(request, model=model)
        if "output_path" in given:
            target = await asyncio.to_thread(options.access.to_write, str(given["output_path"]), "output_path", suffix)
            create = options.access.create
        else:
            target, create = options.files / f"{client_paths.slug(request.text)}{suffix}", client_paths.create
        sound: list[bytes] = []
        meter = ProgressMeter(context.progress)

        async def told(event: object) -> None:
            if isinstance(event, SpeechData):
                sound.append(event.data)
            elif isinstance(event, SpeechProgress):
                await meter.reach(event.parts, event.total)

        done = await last(inference.speak(request), SpeechDone, told)
        written = await asyncio.to_thread(create, target, b"".join(sound))
        return _result(str(written), done)


def _request(given: Mapping[str, Value], trace: str) -> SpeechRequest:
    """The model is as given, maybe ""."""
    format: Any = given.get("output_format", "wav")
    if format not in FORMATS:
        raise InvalidRequest(f"The argument output_format must be one of {', '.join(FORMATS)}.", param="output_format")
    speed = float(given.get("speed", 1.0))
    if not 0.25 <= speed <= 4:
        raise InvalidRequest("The argument speed must be from 0.25 to 4.", param="speed")
    return SpeechRequest(
        model=str(given.get("model", "")),
        text=str(given["text"]),
        voice=str(given.get("voice", "")),
        language=languages.parse(str(given.get("language", ""))),
        instructions=str(given.get("instructions", "")),
        speed=speed,
        format=format,
        trace=trace,
    )


def _result(path: str, done: SpeechDone) -> mcp.CallToolResult:
    text = f"{done.seconds:.1f} seconds of speech are in {path}"
    blocks: list[mcp.ContentBlock] = [mcp.TextContent(type="text", text=text)]
    meta: dict[str, Any] = {"path": path, "seconds": done.seconds}
    if done.incomplete:
        blocks.append(mcp.TextContent(type="text", text=f"[incomplete: {' '.join(done.incomplete)}]"))
        meta["incomplete"] = msgspec.to_builtins(done.incomplete)
    return mcp.CallToolResult(content=blocks, _meta=meta)
