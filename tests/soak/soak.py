"""`make soak`: a real service under random use, with runners killed and clients that leave, for a given time.

Ends with 1 and says why if a request neither ended nor failed clearly, the server died, a runner was left, the server's
memory grew by more than a fifth after the first third, or good answers were long in coming after a kill. How long is
printed beside a control: the same questions under the same load, with nobody killed. Not part of the tests: it takes as
long as it is told.
"""

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx2
import psutil

SERVE = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--demo", "--json", "--port", "0"]
SERVE += ["--audio-port", "0", "--idle-unload", "2"]
KILLS = 0.7  # of the killer's rounds; the others are the control
LATE_SECONDS = 5.0  # after a kill, on a quiet machine
QUIET_SECONDS = 2.5  # the control's answers on one
MODELS = ("qwen3-14b", "gemma-3-12b")
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {"n": 3, "temperature": 0.9},
    {"response_format": {"type": "json_object"}},
    {"tools": [TOOL], "tool_choice": "required"},
    {"enable_thinking": False, "logprobs": True, "top_logprobs": 3},
    {"frequency_penalty": 0.5, "stop": ["o"]},
)


class Soak:
    def __init__(self, url: str, server: psutil.Process, seed: int) -> None:
        self._url = url
        self._server = server
        self._chance = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.after_kills: list[float] = []
        self.control: list[float] = []

    async def client(self, until: float) -> None:
        async with httpx2.AsyncClient(base_url=self._url, timeout=120) as http:
            while time.monotonic() < until:
                self.outcomes[await self._request(http)] += 1

    async def killer(self, until: float) -> None:
        """Kills a runner, or for comparison doesn't, and asks every model until it answers well."""
        async with httpx2.AsyncClient(base_url=self._url, timeout=120) as http:
            while time.monotonic() < until:
                await asyncio.sleep(self._chance.uniform(3, 8))
                runners = [one for one in self._server.children() if "engines.runner.main" in one.cmdline()]
                times = self.control
                if runners and self._chance.random() < KILLS:
                    self._chance.choice(runners).kill()
                    self.outcomes["(killed a runner)"] += 1
                    times = self.after_kills
                times.append(max(await asyncio.gather(*(_answered(http, model) for model in MODELS))))

    async def _request(self, http: httpx2.AsyncClient) -> str:
        body: dict[str, Any] = {
            "model": self._chance.choice(MODELS),
            "messages": [{"role": "user", "content": "hello " * self._chance.choice((1, 50, 800))}],
            "max_tokens": self._chance.choice((1, 20, 200)),
            **self._chance.choice(EXTRAS),
        }
        kind = self._chance.choice(("whole", "streamed", "leaving"))
        if kind == "whole":
            answer = await http.post("/v1/chat/completions", json=body)
            return "whole" if answer.status_code == 200 else self._failure(answer.json())
        async with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
            if answer.status_code != 200:
                return self._failure(json.loads(await answer.aread()))
            seen = 0
            async for line in answer.aiter_lines():
                seen += line.startswith("data: ")
                if kind == "leaving" and seen > 3:
                    return "left"
                if line.startswith('data: {"error"'):
                    return self._failure(json.loads(line.removeprefix("data: ")))
                if line == "data: [DONE]":
                    return "streamed"
        return "CUT"

    def _failure(self, body: dict[str, Any]) -> str:
        code = body["error"]["code"]
        return code if code in ("runner_died", "model_load_failed", "queue_full") else f"UNCLEAR {code}"


async def _answered(http: httpx2.AsyncClient, model: str) -> float:
    """Seconds until the model has answered well."""
    began = time.monotonic()
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    while (await http.post("/v1/chat/completions", json=body)).status_code != 200:  # noqa: ASYNC110 (it is refused)
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def share(times: Sequence[float], part: float) -> float:
    """The time within which so large a part of them lies; 0 of none."""
    return sorted(times)[max(0, math.ceil(part * len(times)) - 1)] if times else 0.0


def slow_after_kills(after: Sequence[float], control: Sequence[float]) -> list[str]:
    """What is wrong with the times until good answers. Where the control is slow itself, the machine has other work."""
    late = share(after, 0.95)
    if late <= LATE_SECONDS or share(control, 0.95) > QUIET_SECONDS:
        return []
    return [f"good answers came {late:.1f} s after kills"]


async def run(seconds: float, seed: int) -> int:
    """The exit status. Prints a line a third of the time, and the outcomes at the end."""
    server = await asyncio.create_subprocess_exec(*SERVE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    url = json.loads(await server.stdout.readline())["main_url"]
    process = psutil.Process(server.pid)
    soak = Soak(url, process, seed)
    began = time.monotonic()
    work = [asyncio.create_task(soak.client(began + seconds)) for _ in range(8)]
    work.append(asyncio.create_task(soak.killer(began + seconds)))
    sizes = []
    for _ in range(3):
        await asyncio.sleep(seconds / 3)
        sizes.append(process.memory_info().rss)
        sys.stdout.write(f"{time.monotonic() - began:.0f} s: {sizes[-1] / 1e6:.0f} MB, {dict(soak.outcomes)}\n")
        sys.stdout.flush()
    await asyncio.gather(*work)
    children = process.children(recursive=True)
    server.terminate()
    status = await server.wait()
    problems = [outcome for outcome in soak.outcomes if outcome.startswith(("UNCLEAR", "CUT"))]
    problems += [f"the server ended with {status}"] if status != 0 else []
    problems += slow_after_kills(soak.after_kills, soak.control)
    for name, times in (("after a kill", soak.after_kills), ("without one", soak.control)):
        figures = f"median {share(times, 0.5):.2f} s, p95 {share(times, 0.95):.2f} s of {len(times)}"
        sys.stdout.write(f"good answers of all models {name}: {figures}\n")
    problems += ["memory grew"] if sizes[-1] > 1.2 * sizes[0] else []
    problems += ["a runner is left"] if psutil.wait_procs(children, timeout=1)[1] else []
    sys.stdout.write(f"{dict(soak.outcomes)}\n{'; '.join(problems) or 'well'}\n")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    return asyncio.run(run(arguments.seconds, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
