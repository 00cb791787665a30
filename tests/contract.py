"""What any `Inference` must do; run over the scripted one and the real one."""

import asyncio
from contextlib import aclosing

import pytest

from engines.types.audio import (
    SpeechData,
    SpeechDone,
    SpeechProgress,
    SpeechRequest,
    Transcript,
    TranscriptionRequest,
    TranscriptPart,
    TranscriptProgress,
    TranscriptText,
)
from engines.types.chat import (
    ChatRequest,
    CompletionRequest,
    Delta,
    Done,
    Event,
    Message,
    Sampling,
)
from engines.types.common import Accepted, Started
from engines.types.errors import InvalidRequest, UnknownModel, WrongCapability
from engines.types.inference import Inference


async def check_inference(inference: Inference, model: str) -> None:
    """Fails an assertion where the protocol isn't kept. `model` must be a chat model that can be loaded."""
    await _a_request_starts_once_and_ends_once(inference, model)
    await _a_completion_continues_its_prompt(inference, model)
    await _tokens_of_a_text_give_it_back(inference, model)
    await _a_limit_cuts_and_says_so(inference, model)
    await _a_limit_beyond_the_room_is_clamped_and_told(inference, model)
    await _leaving_frees_the_place(inference, model)
    await _cancelling_frees_the_place(inference, model)
    await _an_unknown_model_names_the_known(inference)
    await _a_model_loads_and_unloads(inference, model)


async def check_audio(inference: Inference, recording: str, listener: str, speaker: str) -> None:
    """As `check_inference`, for models of sound that can be loaded. In `recording` there is something to hear."""
    for streamed in (False, True):
        request = TranscriptionRequest(listener, recording, streamed=streamed)
        await _a_transcript_is_what_was_told_of_it(inference, request)
    await _leaving_a_transcription_frees_the_place(inference, TranscriptionRequest(listener, recording))
    await _speech_is_one_file_and_an_end(inference, SpeechRequest(speaker, "One. Two."))
    await _what_cannot_be_done_is_told_before_it_starts(inference, recording, listener, speaker)
    assert [voice.name for voice in await inference.voices(speaker)]


async def _a_transcript_is_what_was_told_of_it(inference: Inference, request: TranscriptionRequest) -> None:
    async with aclosing(inference.transcribe(request)) as events:
        seen = [event async for event in events]
    assert isinstance(seen[0], Started) and isinstance(seen[-1], Transcript)
    assert [type(event) for event in seen].count(Transcript) == [type(event) for event in seen].count(Started) == 1
    texts = [event.text for event in seen if isinstance(event, TranscriptText)]
    assert all(texts) and "".join(texts) == seen[-1].text
    parts = [event.segments for event in seen if isinstance(event, TranscriptPart)]
    assert all(parts) and tuple(segment for part in parts for segment in part) == seen[-1].segments
    times = [event.seconds for event in seen if isinstance(event, TranscriptProgress)]
    assert times == sorted(times) and times[-1] <= seen[-1].seconds + 0.01


async def _leaving_a_transcription_frees_the_place(inference: Inference, request: TranscriptionRequest) -> None:
    async with aclosing(inference.transcribe(request)) as events:
        assert isinstance(await anext(events), Started)
    assert inference.model(request.model).running == 0


async def _speech_is_one_file_and_an_end(inference: Inference, request: SpeechRequest) -> None:
    async with aclosing(inference.speak(request)) as events:
        seen = [event async for event in events]
    assert isinstance(seen[0], Started) and isinstance(seen[-1], SpeechDone) and seen[-1].seconds > 0
    assert [type(event) for event in seen[1:-1] if not isinstance(event, SpeechProgress)] == [SpeechData]
    told = [(event.parts, event.total) for event in seen if isinstance(event, SpeechProgress)]
    assert told and told == [(part + 1, len(told)) for part in range(len(told))]


async def _what_cannot_be_done_is_told_before_it_starts(
    inference: Inference, recording: str, listener: str, speaker: str
) -> None:
    with pytest.raises(WrongCapability):
        await anext(inference.transcribe(TranscriptionRequest(speaker, recording)))
    with pytest.raises(UnknownModel):
        await anext(inference.transcribe(TranscriptionRequest("nobody", recording)))
    with pytest.raises(InvalidRequest):
        await anext(inference.speak(SpeechRequest(speaker, "One.", voice="nobody")))
    with pytest.raises(WrongCapability):
        await inference.voices(listener)


def _ask(model: str, max_tokens: int | None = None) -> ChatRequest:
    return ChatRequest(model, (Message("user", "one two three four five"),), Sampling(0.0, max_tokens=max_tokens))


async def _collect(inference: Inference, request: ChatRequest) -> list[Event]:
    async with aclosing(inference.chat(request)) as events:
        return [event async for event in events]


async def _a_request_starts_once_and_ends_once(inference: Inference, model: str) -> None:
    events = await _collect(inference, _ask(model, 5))
    assert [type(event) for event in events].count(Started) == 1 and isinstance(events[1], Started)
    assert isinstance(events[0], Accepted) and [type(event) for event in events].count(Accepted) == 1
    assert [type(event) for event in events].count(Done) == 1 and isinstance(events[-1], Done)
    assert all(event.text or event.reasoning for event in events if isinstance(event, Delta))
    assert events[-1].usage.prompt_tokens == events[1].prompt_tokens > 0


async def _a_completion_continues_its_prompt(inference: Inference, model: str) -> None:
    request = CompletionRequest(model, "one two three", Sampling(0.0, max_tokens=3))
    async with aclosing(inference.complete(request)) as events:
        seen = [event async for event in events]
    assert [type(event) for event in seen[:2]] == [Accepted, Started] and isinstance(seen[-1], Done)
    assert seen[-1].usage.completion_tokens <= 3


async def _tokens_of_a_text_give_it_back(inference: Inference, model: str) -> None:
    found = await inference.tokenize(CompletionRequest(model, "one 二 three"))
    assert 0 < len(found.tokens) < found.context_length
    assert await inference.detokenize(model, found.tokens) == "one 二 three"


async def _a_limit_cuts_and_says_so(inference: Inference, model: str) -> None:
    last = (await _collect(inference, _ask(model, 2)))[-1]
    assert isinstance(last, Done)
    assert last.usage.completion_tokens <= 2
    assert last.finish_reason == "length" or last.usage.completion_tokens < 2


async def _a_limit_beyond_the_room_is_clamped_and_told(inference: Inference, model: str) -> None:
    async with aclosing(inference.chat(_ask(model, 1_000_000))) as events:
        first = await anext(events)
    assert isinstance(first, Accepted) and [one.field for one in first.adjusted] == ["max_tokens"]


async def _leaving_frees_the_place(inference: Inference, model: str) -> None:
    async with aclosing(inference.chat(_ask(model))) as events:
        async for _ in events:
            break
    assert inference.model(model).running == 0


async def _cancelling_frees_the_place(inference: Inference, model: str) -> None:
    task = asyncio.create_task(_collect(inference, _ask(model)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert inference.model(model).running == 0


async def _an_unknown_model_names_the_known(inference: Inference) -> None:
    try:
        await _collect(inference, _ask("nobody"))
    except UnknownModel as error:
        assert inference.models()[0].names[0] in error.message
    else:
        raise AssertionError("an unknown model was answered")


async def _a_model_loads_and_unloads(inference: Inference, model: str) -> None:
    await inference.load(model)
    assert inference.model(model).phase == "ready"
    await inference.unload(model)
    assert inference.model(model).phase == "unloaded"
    await inference.unload(model)
