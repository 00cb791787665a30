import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from demo.checkpoints import make_gemma3, make_qwen3
from demo.speech_checkpoints import make_qwen3_asr
from demo.voice_checkpoints import make_qwen3_tts
from engines.host.awake import KeepAwake
from engines.host.conditions import Conditions
from engines.ipc import runner_protocol
from engines.models.catalog import Catalog, Roots
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.runner_handle import RunnerHandle
from engines.service.runtime import Runtime
from engines.service.service import AudioOptions, Local
from engines.types.audio import PieceDone, PieceRequest, UtteranceDone, UtteranceRequest
from engines.types.chat import ChatRequest, Delta, Done, Event, Message, Sampling
from engines.types.common import Accepted, Started
from engines.types.errors import (
    ContextLengthExceeded,
    DoesNotFit,
    LoadFailed,
    QueueFull,
    RunnerDied,
    ServiceError,
    Stalled,
    UnknownModel,
)
from tests.contract import check_inference
from tests.engines.transcription.sounds import sound
from tests.promises import promise

GIB = 1 << 30
HELLO = """
import socket, sys
from engines.ipc import runner_protocol
link = socket.socket(fileno=int(sys.argv[1]))
link.sendall(runner_protocol.encode(runner_protocol.Hello(1, "cpu", 0)))
"""
DIES = f"""{HELLO}
link.sendall(runner_protocol.encode(runner_protocol.Opened(100)))
decoder = runner_protocol.FrameDecoder(runner_protocol.Command)
while True:
    for command in decoder.feed(link.recv(4096)):
        if isinstance(command, runner_protocol.Prepare):
            link.sendall(runner_protocol.encode(runner_protocol.Prepared(command.id, 3, 5)))
        if isinstance(command, runner_protocol.Load):
            sys.exit(3)
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("models")
    make_qwen3(folder / "toy-qwen3")
    make_gemma3(folder / "toy-gemma3")
    return Catalog(Roots(configured=(folder,)), {"qwen3-14b": "toy-qwen3", "gemma-3-12b": "toy-gemma3"})


def options(budget: int = 4 * GIB, spare: bool = False) -> RuntimeOptions:
    limits = PoolLimits(budget, max_running=16, queue_limit=64, idle_unload=-1.0, patience=30.0)
    return RuntimeOptions(limits, spare=spare)


def ask(model: str, max_tokens: int = 12, text: str = "hello") -> ChatRequest:
    return ChatRequest(model, (Message("user", text),), Sampling(temperature=0.0, max_tokens=max_tokens))


async def collect(runtime: Runtime, request: ChatRequest) -> list[Event]:
    async with aclosing(runtime.run(request)) as events:
        return [event async for event in events]


def run(catalog: Catalog, body: Callable[[Runtime], Coroutine[None, None, None]], budget: int = 4 * GIB) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Runtime(catalog, options(budget)) as runtime:
            await body(runtime)

    asyncio.run(main())


@promise("core:load:once")
def test_requests_by_any_name_share_one_load_and_each_ends_once(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        names = ["qwen3-14b", "TOY-QWEN3", "Qwen3-14B", "gemma-3-12b"]
        answers = await asyncio.gather(*(collect(runtime, ask(name)) for name in names))
        for events in answers:
            assert [type(event) for event in events[:2]] == [Accepted, Started]
            assert [type(event) for event in events].count(Done) == 1 and isinstance(events[-1], Done)
        assert answers[0][:-1] == answers[1][:-1] == answers[2][:-1]
        assert len(list(runtime._supervisor.runners)) == 2
        assert runtime.health().ok

    run(catalog, body)


@promise("core:runner:death-told")
def test_a_killed_runner_fails_what_it_was_saying_and_the_next_request_works(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.run(ask("qwen3-14b", max_tokens=3000))) as events:
            with pytest.raises(RunnerDied):
                async for event in events:
                    if isinstance(event, Delta):
                        (worker,) = runtime._supervisor.runners
                        os.kill(worker.process.pid, signal.SIGKILL)
        assert runtime.health().ok and "signal 9" in runtime.health().problems[0]
        assert isinstance((await collect(runtime, ask("qwen3-14b")))[-1], Done)
        assert not runtime.health().problems

    run(catalog, body)


@promise("core:runner:death-retried")
def test_a_request_that_has_said_nothing_survives_its_runner(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        request = ask("qwen3-14b", text="hello " * 500)
        expected = await collect(runtime, request)
        events: list[Event] = []
        async with aclosing(runtime.run(request)) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, Started):
                    (worker,) = runtime._supervisor.runners
                    os.kill(worker.process.pid, signal.SIGKILL)
        assert events[:-1] == expected[:-1] and isinstance(events[-1], Done)
        assert runtime._supervisor.deaths == 1

    run(catalog, body)


def test_a_prompt_that_meets_a_dying_runner_is_prepared_by_the_next(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        expected = await collect(runtime, ask("qwen3-14b"))
        (worker,) = runtime._supervisor.runners
        os.kill(worker.process.pid, signal.SIGKILL)
        assert (await collect(runtime, ask("qwen3-14b")))[:-1] == expected[:-1]

    run(catalog, body)


def test_leaving_frees_the_place_and_the_model_can_be_unloaded(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.run(ask("qwen3-14b", max_tokens=3000))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        assert runtime.model("qwen3-14b").running == 0
        await runtime.unload("qwen3-14b")
        assert runtime.model("qwen3-14b").phase == "unloaded"
        await runtime.load("qwen3-14b")
        assert runtime.model("qwen3-14b").phase == "ready"

    run(catalog, body)


def test_a_load_by_hand_ends_also_where_idle_models_are_unloaded_at_once(catalog: Catalog) -> None:
    at_once = structs.replace(options(), limits=structs.replace(options().limits, idle_unload=0.0))

    async def body() -> None:
        async with Runtime(catalog, at_once) as runtime:
            await asyncio.wait_for(runtime.load("qwen3-14b"), 60)
            assert runtime.model("qwen3-14b").phase in ("ready", "unloading", "unloaded")

    asyncio.run(body())


def test_a_load_that_is_taken_back_before_there_was_room_does_not_say_that_it_is_ready(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.run(ask("qwen3-14b", max_tokens=3000))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
            loading = asyncio.create_task(runtime.load("gemma-3-12b"))
            while not runtime._supervisor.state.wanted:  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0)
            await runtime.unload("gemma-3-12b")
            with pytest.raises(LoadFailed, match="asked to unload"):
                await asyncio.wait_for(loading, 10)

    run(catalog, body, budget=400 << 20)


def test_who_waits_for_a_load_is_told_that_the_server_stops(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        loading = asyncio.create_task(runtime.load("qwen3-14b"))
        while runtime.model("qwen3-14b").phase != "loading":  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0)
        await runtime.close(0.0)
        with pytest.raises(ServiceError, match="stop"):
            await asyncio.wait_for(loading, 5)

    run(catalog, body)


def test_what_is_wrong_with_a_request_is_known_before_a_model_is_loaded(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        with pytest.raises(UnknownModel, match="qwen3-14b"):
            await collect(runtime, ask("nobody"))
        with pytest.raises(ContextLengthExceeded):
            await collect(runtime, ask("qwen3-14b", text="word " * 9000))
        assert runtime.model("qwen3-14b").phase == "unloaded"

    run(catalog, body)


@promise("core:load:figures")
def test_a_model_beyond_the_budget_is_refused_with_the_figures(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        with pytest.raises(DoesNotFit, match="GB"):
            await collect(runtime, ask("qwen3-14b"))

    run(catalog, body, budget=1000)


def test_no_runner_outlives_the_runtime(catalog: Catalog) -> None:
    pids: list[int] = []

    async def body(runtime: Runtime) -> None:
        await collect(runtime, ask("qwen3-14b"))
        pids.extend(worker.process.pid for worker in runtime._supervisor.runners)

    run(catalog, body)
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@promise("core:request:ends-once")
def test_the_runtime_keeps_the_contract_of_inference(catalog: Catalog, tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Local(catalog, options(), AudioOptions(tmp_path)) as runtime:
            await check_inference(runtime, "qwen3-14b")

    asyncio.run(main())


def test_a_spare_serves_the_next_model_and_is_replaced(catalog: Catalog) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Runtime(catalog, options(spare=True)) as runtime:
            first = await spare_of(runtime)
            await collect(runtime, ask("qwen3-14b"))
            assert [worker.process.pid for worker in runtime._supervisor.runners] == [first]
            assert await spare_of(runtime) != first

    asyncio.run(main())


def test_what_the_device_recommends_is_asked_before_the_first_load_also_without_a_spare(catalog: Catalog) -> None:
    runner = (
        "from engines.runner import main; from engines.runner.generation import model; "
        "model.device_bytes = lambda: 1 << 20; main.main()"
    )
    limits = PoolLimits(4 * GIB, 4, 4, -1.0, 30.0, ceiling=8 * GIB)

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            Runtime(catalog, RuntimeOptions(limits, runner=("-P", "-c", runner))) as runtime,
        ):
            with pytest.raises(DoesNotFit, match="this machine can give"):
                await collect(runtime, ask("qwen3-14b"))
            assert runtime._supervisor.state.limits.budget == 1 << 20

    asyncio.run(main())


async def spare_of(runtime: Runtime) -> int:
    while runtime._supervisor.runners.spare_pid is None:  # noqa: ASYNC110 (the spare is started behind everybody's back)
        await asyncio.sleep(0.01)
    return runtime._supervisor.runners.spare_pid


@promise("mac:background:waits")
def test_a_machine_short_of_memory_pauses_background_work_says_so_and_chats_on(catalog: Catalog) -> None:
    async def main() -> None:
        def read() -> Conditions:
            return Conditions(memory_pressure=2)

        async with asyncio.timeout(60), Runtime(catalog, options(), read_conditions=read) as runtime:
            await until(lambda: runtime.health().paused_by == ("memory is scarce",))
            assert runtime.health().ok and runtime.health().conditions == {"memory_pressure": 2}
            assert runtime._supervisor.state.memory_is_scarce
            assert isinstance((await collect(runtime, ask("qwen3-14b")))[-1], Done)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["chat", "speech"])
def test_a_request_in_the_background_waits_while_memory_is_scarce_unless_something_is_wrong_with_it(
    tmp_path: Path, kind: str
) -> None:
    (make_qwen3 if kind == "chat" else make_qwen3_tts)(tmp_path / "toy")
    pressure = 2

    def read() -> Conditions:
        return Conditions(memory_pressure=pressure)

    def work(model: str) -> Any:
        asked: Any = ask(model, max_tokens=2) if kind == "chat" else UtteranceRequest(model, "Hello.", max_seconds=1.0)
        return structs.replace(asked, priority="background")

    async def main() -> None:
        nonlocal pressure
        catalog = Catalog(Roots(configured=(tmp_path,)), {})
        async with asyncio.timeout(60), Runtime(catalog, options(), read_conditions=read) as runtime:
            await until(lambda: bool(runtime.health().paused_by))
            with pytest.raises(UnknownModel):
                await collect(runtime, work("nobody"))
            waiting = asyncio.create_task(collect(runtime, work("toy")))
            await until(lambda: any(one._prepared.prompt_tokens for one in runtime._admission.tickets.values()))
            assert not waiting.done() and not runtime._supervisor.state.queue and not runtime.model("toy").running
            pressure = 1
            assert isinstance((await waiting)[-1], Done | UtteranceDone)

    asyncio.run(main())


@promise("core:server:awake")
def test_a_mac_is_kept_awake_while_there_is_work_and_no_longer(catalog: Catalog) -> None:
    async def main() -> None:
        awake = KeepAwake((sys.executable, "-c", "import time; time.sleep(60)"), linger=0.0)
        async with asyncio.timeout(60), Runtime(catalog, options(), awake) as runtime:
            async with aclosing(runtime.run(ask("qwen3-14b", max_tokens=3000))) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        break
                while awake._helper is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                pid = awake._helper.pid
            while awake._helper is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(main())


@promise("core:runner:back-off")
def test_a_model_that_keeps_dying_is_left_alone_and_says_so(catalog: Catalog) -> None:
    async def main() -> None:
        broken = (*options().runner[:1], "-c", DIES)
        async with asyncio.timeout(60), Runtime(catalog, structs.replace(options(), runner=broken)) as runtime:
            errors = []
            for _ in range(5):
                with pytest.raises(ServiceError) as caught:
                    await collect(runtime, ask("qwen3-14b"))
                errors.append(caught.value)
            assert all(error.status == 503 for error in errors)
            assert errors[-1].retry_after is not None
            assert not runtime.health().ok
            assert runtime._supervisor.deaths < 10

    asyncio.run(main())


@promise("core:watchdog:ended")
def test_a_runner_that_hangs_is_ended_and_its_request_fails(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.run(ask("qwen3-14b", max_tokens=3000))) as events:
            with pytest.raises(Stalled):
                async for event in events:
                    if isinstance(event, Delta):
                        (worker,) = runtime._supervisor.runners
                        os.kill(worker.process.pid, signal.SIGSTOP)
                        # Again at each event, for what it had sent before may hold a sign of life.
                        worker.work_begins(runtime._clock.now - 1000.0)
                        worker.beat = lambda *_: None  # type: ignore[method-assign]
        assert isinstance((await collect(runtime, ask("qwen3-14b")))[-1], Done)

    run(catalog, body)


OPENED = "link.sendall(runner_protocol.encode(runner_protocol.Opened(100)))"


@promise("core:watchdog:ended")
@pytest.mark.parametrize("says", ["", OPENED], ids=["opening", "preparing"])
def test_a_runner_that_hangs_over_its_tokenizer_is_ended_and_its_request_fails(
    catalog: Catalog, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.ipc.liveness.STUCK_SECONDS", 0.1)
    mute = (*options().runner[:1], "-c", f"{HELLO}{says}\nlink.recv(1 << 20)\nimport time; time.sleep(100)")

    async def main() -> None:
        async with asyncio.timeout(60), Runtime(catalog, structs.replace(options(), runner=mute)) as runtime:
            with pytest.raises(RunnerDied):
                await collect(runtime, ask("qwen3-14b"))
            assert not list(runtime._admission.tickets)

    asyncio.run(main())


async def stopped(runtime: Runtime, pid: int, gone: Callable[[], bool]) -> str:
    """Stops a process, and waits impatiently until `/health` has told it and it is gone; what was told."""
    with pytest.MonkeyPatch.context() as impatience:
        impatience.setattr("engines.ipc.liveness.LATE_SECONDS", 0.5)
        impatience.setattr("engines.ipc.liveness.STUCK_SECONDS", 3.0)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: not runtime.health().ok)
        told = runtime.health().problems[-1]
        await until(gone)
    return told


@promise("core:watchdog:idle")
def test_an_idle_runner_that_hangs_is_told_and_replaced_and_who_waits_for_it_is_answered(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        await collect(runtime, ask("qwen3-14b"))
        (worker,) = runtime._supervisor.runners
        assert "qwen3-14b: no answer" in await stopped(runtime, worker.process.pid, worker.gone.is_set)
        await until(lambda: runtime.model("qwen3-14b").phase == "ready")
        await collect(runtime, ask("qwen3-14b"))
        (worker,) = runtime._supervisor.runners
        os.kill(worker.process.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(collect(runtime, ask("qwen3-14b")))
        await stopped(runtime, worker.process.pid, worker.gone.is_set)
        assert isinstance((await waiting)[-1], Done)
        assert runtime.health().ok

    run(catalog, body)


@promise("core:watchdog:idle")
def test_a_spare_that_hangs_is_told_and_replaced(catalog: Catalog) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Runtime(catalog, options(spare=True)) as runtime:
            first = await spare_of(runtime)
            runners = runtime._supervisor.runners
            assert "the spare runner: no answer" in await stopped(runtime, first, lambda: runners.spare_pid is None)
            assert runtime.health().ok
            runners._spare_due = 0.0
            assert await spare_of(runtime) != first

    asyncio.run(main())


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 (what is waited for happens in other processes)
        await asyncio.sleep(0.02)


@promise("core:request:ends-once")
def test_sixty_four_requests_at_once_all_end(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        answers = await asyncio.gather(*(collect(runtime, ask("qwen3-14b", text=f"hello {n}")) for n in range(64)))
        assert all(isinstance(events[-1], Done) for events in answers)

    run(catalog, body)


@promise("core:queue:full")
def test_a_full_queue_is_refused_and_the_rest_goes_on(catalog: Catalog) -> None:
    async def main() -> None:
        limits = PoolLimits(4 * GIB, max_running=1, queue_limit=1, idle_unload=-1.0, patience=30.0)
        async with asyncio.timeout(60), Runtime(catalog, RuntimeOptions(limits)) as runtime:
            work = [collect(runtime, ask("qwen3-14b", max_tokens=200)) for _ in range(6)]
            answers = await asyncio.gather(*work, return_exceptions=True)
            refused = [one for one in answers if isinstance(one, QueueFull)]
            assert refused and all(one.retry_after for one in refused)
            assert all(isinstance(one, list) for one in answers if one not in refused)

    asyncio.run(main())


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("steps", range(6))
def test_a_client_that_leaves_in_any_phase_frees_its_place(catalog: Catalog, steps: int) -> None:
    async def body(runtime: Runtime) -> None:
        task = asyncio.create_task(collect(runtime, ask("qwen3-14b", max_tokens=3000, text="hello " * 300)))
        await asyncio.sleep(steps * 0.4)  # somewhere in resolving, opening, preparing, loading, prefill, decode
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        status = runtime.model("qwen3-14b")
        assert (status.running, status.waiting, runtime._admission.tickets) == (0, 0, {})
        assert isinstance((await collect(runtime, ask("qwen3-14b")))[-1], Done)

    run(catalog, body)


def test_a_chat_and_a_recording_share_the_device_while_both_are_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_qwen3(tmp_path / "toy-chat")
    make_qwen3_asr(tmp_path / "toy-asr")
    told: list[tuple[str, bool, bool]] = []
    send = RunnerHandle.send

    def noted(worker: RunnerHandle, command: runner_protocol.Command) -> None:
        if isinstance(command, runner_protocol.ShareDevice):
            told.append((Path(worker.key).name, command.shared, command.yields))
        send(worker, command)

    monkeypatch.setattr(RunnerHandle, "send", noted)
    samples = sound(3.0)

    async def body(runtime: Runtime) -> None:
        async with aclosing(runtime.run(ask("toy-chat", max_tokens=3000))) as events:
            while not isinstance(await anext(events), Delta):
                pass
            async with aclosing(runtime.run(PieceRequest("toy-asr", samples))) as heard:
                assert isinstance([event async for event in heard][-1], PieceDone)
        await runtime.unload("toy-asr")

    run(Catalog(Roots(configured=(tmp_path,)), {}), body)
    assert sorted(told[:2]) == [("toy-asr", True, True), ("toy-chat", True, False)]
    assert told[2:] == [("toy-chat", False, False), ("toy-asr", False, False)]
