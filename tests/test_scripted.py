from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from engines.types.chat import ChatRequest, Delta, Done, Event, Message, Sampling
from engines.types.common import Accepted, Started
from engines.types.errors import RunnerDied, ServiceError, leaves
from tests.contract import check_audio, check_inference
from tests.scripted import Scripted

PLAIN = Sampling()


def ask(text: str, sampling: Sampling = PLAIN) -> ChatRequest:
    return ChatRequest("gemma-3-12b", (Message("user", text),), sampling)


def answer(text: str, sampling: Sampling = PLAIN) -> tuple[str, str]:
    async def run() -> list[Event]:
        return [event async for event in Scripted().chat(ask(text, sampling))]

    events = anyio.run(run)
    assert [type(event) for event in events[:2]] == [Accepted, Started] and isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, Delta)), events[-1].finish_reason


def test_it_says_what_it_is_told_and_echoes_the_rest() -> None:
    assert answer("say: one two  three") == ("one two  three", "stop")
    assert answer("你好 there") == ("你好 there", "stop")
    assert answer("length: cut") == ("cut", "length")


def test_stop_and_max_tokens_end_the_answer() -> None:
    assert answer("say: one two three", Sampling(stop=("three", "two"))) == ("one ", "stop")
    assert answer("say: one two three", Sampling(max_tokens=2)) == ("one two ", "length")


def test_every_error_can_be_asked_for_by_its_code() -> None:
    for kind in leaves():
        with pytest.raises(ServiceError) as caught:
            answer(f"fail: {kind.code}")
        assert type(caught.value) is kind


def test_a_crash_comes_after_its_deltas_and_a_closed_hang_counts_as_cancelled() -> None:
    async def run() -> None:
        scripted = Scripted()
        seen: list[Event] = []
        with pytest.raises(RunnerDied):
            async for event in scripted.chat(ask("crash after 2")):
                seen.append(event)  # noqa: PERF401
        assert len(seen) == 4
        async with aclosing(scripted.chat(ask("hang"))) as events:
            await anext(events)
            await anext(events)
            assert scripted.active == 1
        assert scripted.active == 0
        assert scripted.ended == {"done": 0, "failed": 1, "cancelled": 1}

    anyio.run(run)


def test_it_keeps_the_contract_of_inference() -> None:
    anyio.run(check_inference, Scripted(), "gemma-3-12b")


def test_it_keeps_the_contract_of_inference_for_sound(tmp_path: Path) -> None:
    (tmp_path / "recording").write_text("one / two")
    anyio.run(check_audio, Scripted(), str(tmp_path / "recording"), "qwen3-asr", "qwen3-tts")
