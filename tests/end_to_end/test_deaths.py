"""Processes that are killed, stopped or hang, as seen by clients over HTTP."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.end_to_end.conftest import Service, Start, until
from tests.promises import promise

HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": "endless", "messages": HELLO, "max_tokens": 12, "temperature": 0}
LONG = {**ASK, "max_tokens": 4000}

# But for the conditions, which are the machine's.
WELL = {"status": "ok", "problems": [], "background": {"paused": False, "reasons": []}, "conditions": {}}


def sample(service: Service, name: str) -> float:
    """The value of the first sample of that name, whatever its labels."""
    lines = service.http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def first_words(lines: Iterator[str]) -> str:
    """What comes when the model has said something, or can't."""
    return next(line for line in lines if '"content":"' in line and '"content":""' not in line or '"error"' in line)


def kill_in_a_stream(service: Service) -> str:
    """Kills the runner once it has said something; what the client read after that."""
    with service.stream(LONG) as answer:
        lines = answer.iter_lines()
        if '"code":"model_load_failed"' in first_words(lines):
            return ""  # it is left alone for a while
        (runner,) = service.runners()
        runner.kill()
        return "\n".join(lines)


def die(service: Service, times: int) -> None:
    for number in range(1, times + 1):
        read = until(lambda: kill_in_a_stream(service))
        assert '"code":"runner_died"' in read and "[DONE]" not in read
        health = service.http.get("/health")
        assert health.status_code == (200 if number == 1 else 503)
        (problem,) = health.json()["problems"]
        assert "endless" in problem and "signal 9" in problem
    assert sample(service, "mlx_local_runner_deaths_total") == sample(service, "mlx_local_faults") == times


def comes_back(service: Service) -> None:
    answer = until(lambda: (answer := service.chat(ASK)).status_code != 503 and answer)
    assert answer.status_code == 200
    assert {**service.http.get("/health").json(), "conditions": {}} == WELL


@promise("core:runner:death-told")
def test_a_runner_that_is_killed_twice_is_told_and_comes_back(start: Start, models: str) -> None:
    with start("--spare-runner", "false", "--models-dir", models) as service:
        die(service, 2)
        comes_back(service)


@promise("core:runner:back-off")
@pytest.mark.slow
def test_a_model_that_dies_five_times_is_left_alone_for_a_while_and_comes_back(start: Start, models: str) -> None:
    with start("--spare-runner", "false", "--models-dir", models) as service:
        die(service, 5)
        refused = service.chat(ASK)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_load_failed")
        assert int(refused.headers["retry-after"]) >= 1
        comes_back(service)


@promise("core:server:killed")
@pytest.mark.parametrize("phase", ["starting", "loading", "prefilling"])
def test_no_runner_outlives_a_killed_server(start: Start, models: str, phase: str) -> None:
    with start("--spare-runner", "false", "--models-dir", models) as service:
        body = {**ASK, "model": "slow", "messages": [{"role": "user", "content": "hello " * 900}]}
        client = threading.Thread(target=ask_and_be_left, args=(service.url, body))
        client.start()
        until(service.runners)
        if phase == "loading":
            until(lambda: service.model("slow")["phase"] == "loading")
        elif phase == "prefilling":
            until(lambda: service.model("slow")["running"])
        runners = service.runners()
        os.kill(service.process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(runners, timeout=1)
        # Whoever inherits them reaps them late, if at all: a zombie has ended.
        assert all(runner.status() == psutil.STATUS_ZOMBIE for runner in alive)
        service.process.wait()
        client.join(10)


def ask_and_be_left(url: str, body: dict[str, Any]) -> None:
    with pytest.raises(httpx2.HTTPError):
        httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60)


@promise("core:server:stopped")
def test_a_stop_lets_end_what_can_and_tells_the_others(start: Start, models: str) -> None:
    with start("--stop-grace", "3", "--spare-runner", "false", "--models-dir", models) as service:
        bodies = [{**ASK, "max_tokens": 25}] * 4 + [LONG] * 3
        begun = threading.Barrier(8)
        texts: dict[int, str] = {}

        def read(number: int) -> None:
            with httpx2.Client(base_url=service.url, timeout=60) as http:
                body = {**bodies[number], "stream": True}
                with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    lines = answer.iter_lines()
                    first_words(lines)
                    begun.wait(60)
                    texts[number] = "\n".join(lines)

        clients = [threading.Thread(target=read, args=(number,)) for number in range(7)]
        for client in clients:
            client.start()
        begun.wait(60)
        children = service.runners()
        service.process.terminate()
        until(lambda: refuses(service))
        assert service.process.wait(20) == 0
        for client in clients:
            client.join(10)
        assert all("data: [DONE]" in texts[number] for number in range(4))
        assert all('"code":"shutting_down"' in texts[number] for number in range(4, 7))
        assert not psutil.wait_procs(children, timeout=1)[1]


@promise("core:server:stopped")
def test_a_stop_while_a_model_is_coming_is_told(start: Start, models: str) -> None:
    with start("--stop-grace", "0.1", "--spare-runner", "false", "--models-dir", models) as service:
        texts: list[str] = []

        def ask(stream: bool) -> None:
            body = {**ASK, "stream": stream}
            texts.append(httpx2.post(f"{service.url}/v1/chat/completions", json=body, timeout=60).text)

        clients = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
        for client in clients:
            client.start()
        children = until(service.runners)
        service.process.terminate()
        assert service.process.wait(20) == 0
        for client in clients:
            client.join(10)
        assert len(texts) == 2 and all('"code":"shutting_down"' in text for text in texts)
        assert not psutil.wait_procs(children, timeout=1)[1]


def test_a_stop_at_the_moment_of_readiness_is_as_good_as_any(start: Start) -> None:
    with start("--spare-runner", "true") as service:
        service.process.terminate()
        assert service.process.wait(20) == 0
        assert not Path(service.socket).exists()


def refuses(service: Service) -> bool:
    """New requests are told that the server stops, or find nobody."""
    try:
        return service.chat(ASK).json()["error"]["code"] == "shutting_down"  # type: ignore[no-any-return]
    except (httpx2.HTTPError, KeyError):
        return True


@promise("core:server:sleep")
@pytest.mark.parametrize("seconds", [0.5, pytest.param(75.0, marks=pytest.mark.slow)])
def test_work_goes_on_after_a_sleep(start: Start, models: str, seconds: float) -> None:
    with (
        start("--spare-runner", "false", "--models-dir", models) as service,
        service.stream({**ASK, "max_tokens": 150}) as answer,
    ):
        lines = answer.iter_lines()
        first_words(lines)
        runners = service.runners()
        everybody = [psutil.Process(service.process.pid), *runners]
        for process in everybody:
            process.suspend()
        threading.Event().wait(seconds)  # the sleep
        for process in everybody:
            process.resume()
        assert {**service.http.get("/health").json(), "conditions": {}} == WELL
        assert list(lines)[-2] == "data: [DONE]"
        assert service.runners() == runners


@promise("core:watchdog:told", "core:watchdog:ended")
@pytest.mark.slow
def test_a_runner_that_hangs_is_told_then_ended_then_replaced(start: Start, models: str) -> None:
    with start("--spare-runner", "false", "--models-dir", models) as service, service.stream(LONG) as answer:
        lines = answer.iter_lines()
        first_words(lines)
        (runner,) = service.runners()
        runner.suspend()
        health = until(lambda: (health := service.http.get("/health")).status_code == 503 and health, 15)
        assert health.json()["problems"] == ["endless: no step for more than 10 s"]
        assert '"code":"model_stalled"' in "\n".join(lines)
        assert service.chat(ASK).status_code == 200
        assert service.http.get("/health").status_code == 200
        assert not runner.is_running()
