import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import aclosing

import pytest

from demo.checkpoints import make_gemma3, make_qwen3
from engines.catalog import Catalog, Roots
from engines.errors import ContextLengthExceeded, DoesNotFit, RunnerDied, UnknownModel
from engines.pool import Limits
from engines.runtime import Options, Runtime
from engines.types import ChatRequest, Delta, Done, Event, Message, Sampling, Started

GIB = 1 << 30


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("models")
    make_qwen3(folder / "toy-qwen3")
    make_gemma3(folder / "toy-gemma3")
    return Catalog(Roots(configured=(folder,)), {"qwen3-14b": "toy-qwen3", "gemma-3-12b": "toy-gemma3"})


def options(budget: int = 4 * GIB) -> Options:
    return Options(Limits(budget, max_running=16, queue_limit=64, idle_unload=-1.0, patience=30.0))


def ask(model: str, max_tokens: int = 12, text: str = "hello") -> ChatRequest:
    return ChatRequest(model, (Message("user", text),), Sampling(temperature=0.0, max_tokens=max_tokens))


async def collect(runtime: Runtime, request: ChatRequest) -> list[Event]:
    async with aclosing(runtime.chat(request)) as events:
        return [event async for event in events]


def run(catalog: Catalog, body: Callable[[Runtime], Coroutine[None, None, None]], budget: int = 4 * GIB) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Runtime(catalog, options(budget)) as runtime:
            await body(runtime)

    asyncio.run(main())


def test_requests_by_any_name_share_one_load_and_each_ends_once(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        names = ["qwen3-14b", "TOY-QWEN3", "Qwen3-14B", "gemma-3-12b"]
        answers = await asyncio.gather(*(collect(runtime, ask(name)) for name in names))
        for events in answers:
            assert isinstance(events[0], Started)
            assert [type(event) for event in events].count(Done) == 1 and isinstance(events[-1], Done)
        assert answers[0][:-1] == answers[1][:-1] == answers[2][:-1]
        assert len(runtime._workers) == 2
        assert runtime.health().ok

    run(catalog, body)


def test_a_killed_runner_fails_what_it_was_saying_and_the_next_request_works(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.chat(ask("qwen3-14b", max_tokens=3000))) as events:
            with pytest.raises(RunnerDied):
                async for event in events:
                    if isinstance(event, Delta):
                        (worker,) = runtime._workers.values()
                        os.kill(worker.process.pid, signal.SIGKILL)
        assert not runtime.health().ok
        assert isinstance((await collect(runtime, ask("qwen3-14b")))[-1], Done)
        assert runtime.health().ok

    run(catalog, body)


def test_leaving_frees_the_place_and_the_model_can_be_unloaded(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.chat(ask("qwen3-14b", max_tokens=3000))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        assert runtime.model("qwen3-14b").running == 0
        await runtime.unload("qwen3-14b")
        assert runtime.model("qwen3-14b").phase == "unloaded"
        await runtime.load("qwen3-14b")
        assert runtime.model("qwen3-14b").phase == "ready"

    run(catalog, body)


def test_what_is_wrong_with_a_request_is_known_before_a_model_is_loaded(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        with pytest.raises(UnknownModel, match="qwen3-14b"):
            await collect(runtime, ask("nobody"))
        with pytest.raises(ContextLengthExceeded):
            await collect(runtime, ask("qwen3-14b", text="word " * 9000))
        assert runtime.model("qwen3-14b").phase == "unloaded"

    run(catalog, body)


def test_a_model_beyond_the_budget_is_refused_with_the_figures(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        with pytest.raises(DoesNotFit, match="GB"):
            await collect(runtime, ask("qwen3-14b"))

    run(catalog, body, budget=1000)


def test_no_runner_outlives_the_runtime(catalog: Catalog) -> None:
    pids: list[int] = []

    async def body(runtime: Runtime) -> None:
        await collect(runtime, ask("qwen3-14b"))
        pids.extend(worker.process.pid for worker in runtime._workers.values())

    run(catalog, body)
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
