"""`mlx-local demo`: every capability, asked on the small bundled models, over HTTP and over MCP."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import httpx2

from demo.recordings import BundledRecording, recordings

MODELS = ("qwen3-14b", "gemma-3-12b")
LISTENER, WHISPER = "qwen3-asr", "whisper-large-v3-turbo"
WHISPER_LANGUAGES = ("en", "zh")  # in which the toy misses no word of the recording
WEATHER_QUESTION = "What is the weather in Tokyo?"
PLACE_QUESTION = "Give me Tokyo as JSON."
QUESTIONS = ("What can you do?", "你能做什么？")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
    "additionalProperties": False,
}
TOKENS = 200
LOG_LINES = 20  # of the server's, where something fails
SENTENCE = "Hello, this is the local recording."
SPOKEN = "hello this is the local recording"  # as the demo's speech-to-text model writes it


class DemoFailed(Exception):
    """What was answered instead, or what the answer lacks."""


def run(out: TextIO) -> int:
    """The exit status: 0 when every capability answered."""
    out.write("The bundled models are toys, trained on a few hundred sentences: the machinery is real.\n")
    try:
        with tempfile.TemporaryDirectory(prefix="mlx-local-demo-") as folder, serving(folder) as (url, audio_url):
            with httpx2.Client(base_url=url, timeout=120.0) as client:
                for model in MODELS:
                    _chat(client, model, out)
                    _tool_round_trip(client, model, out)
                    _document(client, model, out)
                for recording in recordings():
                    if recording.language in WHISPER_LANGUAGES:
                        _transcribe(client, WHISPER, recording, out)
            with httpx2.Client(base_url=audio_url, timeout=120.0) as client:
                for recording in recordings():
                    _transcribe(client, LISTENER, recording, out)
                _speak(client, Path(folder) / "hello.wav", out)
            asyncio.run(_over_mcp(url, Path(folder), out))
    except DemoFailed as error:
        out.write(f"  failed:   {error}\n")
        return 1
    return 0


def _chat(client: httpx2.Client, model: str, out: TextIO) -> None:
    for question in QUESTIONS:
        out.write(f"\nChat over HTTP · {model}\n  asked:    {question}\n")
        message = _answer(client, model, [_user(question)])
        if thought := message.get("reasoning_content"):
            out.write(f"  thought:  {thought}\n")
        out.write(f"  answered: {message['content']}\n")


def _tool_round_trip(client: httpx2.Client, model: str, out: TextIO) -> None:
    """The model calls a tool, we play the tool, the model tells what it said."""
    out.write(f"\nA tool over HTTP · {model}\n  asked:    {WEATHER_QUESTION}\n")
    messages = [_user(WEATHER_QUESTION)]
    message = _answer(client, model, messages, tools=[WEATHER])
    messages += [message, *_results(message, out)]
    out.write(f"  answered: {_answer(client, model, messages, tools=[WEATHER])['content']}\n")


def _document(client: httpx2.Client, model: str, out: TextIO) -> None:
    out.write(f"\nA JSON schema over HTTP · {model}\n  asked:    {PLACE_QUESTION}\n")
    format = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PLACE}}
    message = _answer(client, model, [_user(PLACE_QUESTION)], response_format=format)
    out.write(f"  answered: {json.dumps(json.loads(message['content']), ensure_ascii=False)}\n")


def _transcribe(client: httpx2.Client, model: str, recording: BundledRecording, out: TextIO) -> None:
    out.write(f"\nTranscription over HTTP · {model}\n  recorded: {recording.path.name}\n")
    out.write(f"  heard:    {_right(_heard(client, model, recording.path), recording.text)}\n")


def _heard(client: httpx2.Client, model: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": model})
    if answer.status_code != 200:
        raise DemoFailed(answer.text)
    return str(answer.json()["text"])


def _right(text: str, spoken: str) -> str:
    if text != spoken:
        raise DemoFailed(f"heard {text!r} where {spoken!r} is spoken")
    return text


def _speak(client: httpx2.Client, target: Path, out: TextIO) -> None:
    out.write(f"\nSpeech over HTTP · qwen3-tts\n  asked:    {SENTENCE}\n")
    answer = client.post("/v1/audio/speech", json={"model": "qwen3-tts", "input": SENTENCE, "seed": 1})
    if answer.status_code != 200:
        raise DemoFailed(answer.text)
    target.write_bytes(answer.content)
    with wave.open(str(target), "rb") as sound:
        out.write(f"  spoken:   {sound.getnframes() / sound.getframerate():.1f} seconds in {target.name}\n")
    out.write(f"  heard:    {_right(_heard(client, LISTENER, target), SPOKEN)}\n")


async def _over_mcp(url: str, folder: Path, out: TextIO) -> None:
    from mcp import Client  # a second of imports, for this command alone

    async with Client(f"{url}/mcp") as client:
        for model in MODELS:

            async def ask(model: str = model, **arguments: Any) -> str:
                given = {**arguments, "model": model, "temperature": 0, "max_tokens": TOKENS}
                return _text(await client.call_tool("chat", given))

            out.write(f"\nChat over MCP · {model}\n  asked:    {QUESTIONS[0]}\n")
            out.write(f"  answered: {await ask(prompt=QUESTIONS[0])}\n")
            out.write(f"\nA tool over MCP · {model}\n  asked:    {WEATHER_QUESTION}\n")
            tools = json.dumps([WEATHER["function"]])
            message = json.loads(await ask(prompt=WEATHER_QUESTION, tools=tools))
            conversation = json.dumps([_user(WEATHER_QUESTION), message, *_results(message, out)])
            out.write(f"  answered: {await ask(messages=conversation, tools=tools)}\n")
            out.write(f"\nA JSON schema over MCP · {model}\n  asked:    {PLACE_QUESTION}\n")
            document = json.loads(await ask(prompt=PLACE_QUESTION, json_schema=json.dumps(PLACE)))
            out.write(f"  answered: {json.dumps(document, ensure_ascii=False)}\n")
        for recording in recordings():
            out.write(f"\nTranscription over MCP · the tool transcribe\n  recorded: {recording.path.name}\n")
            heard = await client.call_tool("transcribe", {"path": str(recording.path)})
            out.write(f"  heard:    {_right(_text(heard), recording.text)}\n")
        out.write(f"\nSpeech over MCP · the tool speak\n  asked:    {SENTENCE}\n")
        target = str(folder / "agent.wav")
        spoken = await client.call_tool("speak", {"text": SENTENCE, "output_path": target})
        out.write(f"  spoken:   {_text(spoken)}\n")
        heard = await client.call_tool("transcribe", {"path": target})
        out.write(f"  heard:    {_right(_text(heard), SPOKEN)}\n")


def _text(answer: Any) -> str:
    texts = [block.text for block in answer.content if block.type == "text"]
    if answer.is_error or not texts:
        raise DemoFailed(" ".join(texts) or "no answer")
    return str(texts[0])


def _results(message: dict[str, Any], out: TextIO) -> list[dict[str, Any]]:
    """We play the tools that a message calls."""
    calls = message.get("tool_calls")
    if not calls:
        raise DemoFailed(f"no call of the tool: {message}")
    results = []
    for call in calls:
        function = call["function"]
        result = json.dumps({"temperature": 24, "sky": "sunny"})
        out.write(f"  called:   {function['name']}({function['arguments']}) → {result}\n")
        results.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return results


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _answer(client: httpx2.Client, model: str, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """The message of a whole answer."""
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": TOKENS, **fields}
    answer = client.post("/v1/chat/completions", json=body)
    if answer.status_code != 200:
        raise DemoFailed(answer.text)
    choice = answer.json()["choices"][0]
    if choice["finish_reason"] == "length":
        raise DemoFailed(f"the answer was cut: {choice['message']}")
    return dict(choice["message"])


@contextlib.contextmanager
def serving(folder: str) -> Iterator[tuple[str, str]]:
    """A demo server on free ports, whose agents may use the files in `folder`; its main URL, and that for audio.

    What it logs is for whom it fails: a page for people has no such lines in it.
    """
    command = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--demo", "--json", "--stop-at-eof"]
    command += ["--port", "0", "--audio-port", "0", "--file-roots", folder]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        # The server's stdin ends with this process, so that it stops even where this one is killed.
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as server:
            assert server.stdout is not None
            try:
                line = server.stdout.readline()
                if not line:
                    raise DemoFailed("the server didn't start")
                ready = json.loads(line)
                yield str(ready["main_url"]), str(ready["audio_url"])
            except (DemoFailed, httpx2.HTTPError) as error:
                raise DemoFailed(f"{error}\n{_end_of(log)}") from error
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(30)


def _end_of(log: TextIO) -> str:
    """The last lines of a server's log, for people."""
    log.seek(0)
    return "".join(f"  its log:  {line}" for line in log.readlines()[-LOG_LINES:])
