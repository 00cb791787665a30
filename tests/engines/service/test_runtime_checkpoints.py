"""Checkpoints of layouts that are published, as the runtime runs them or refuses them."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from demo.checkpoints import make_gemma3, make_qwen3
from engines.models.catalog import Catalog, Roots
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.runtime import Runtime
from engines.types.chat import ChatRequest, Delta, Message, Sampling
from engines.types.errors import CheckpointUnusable
from tests.promises import promise

STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


async def text(runtime: Runtime, model: str) -> str:
    request = ChatRequest(model, (Message("user", "hello"),), Sampling(temperature=0.0, max_tokens=12))
    async with aclosing(runtime.run(request)) as events:
        return "".join([event.text async for event in events if isinstance(event, Delta)])


def run(folder: Path, body: Callable[[Runtime], Coroutine[None, None, None]], checkpoint_sampling: bool = True) -> None:
    limits = PoolLimits(4 << 30, max_running=16, queue_limit=64, idle_unload=-1.0, patience=30.0)

    async def main() -> None:
        catalog = Catalog(Roots(configured=(folder,)), {})
        options = RuntimeOptions(limits, checkpoint_sampling=checkpoint_sampling)
        async with asyncio.timeout(60), Runtime(catalog, options) as runtime:
            await body(runtime)

    asyncio.run(main())


@promise("checkpoints:decoders")
def test_a_tokenizer_of_sentencepiece_kind_chats_and_strips_the_first_blank(tmp_path: Path) -> None:
    make_gemma3(tmp_path / "plain")
    make_gemma3(tmp_path / "stripped")
    tokenizer = tmp_path / "stripped" / "tokenizer.json"
    decoder = json.loads(tokenizer.read_text())["decoder"]
    change(tokenizer, decoder={"type": "Sequence", "decoders": [*decoder["decoders"], STRIP]})

    async def body(runtime: Runtime) -> None:
        plain = await text(runtime, "plain")
        assert await text(runtime, "stripped") == plain.removeprefix(" ") != ""

    run(tmp_path, body)


@promise("checkpoints:refused-once")
def test_what_does_not_make_a_model_is_loaded_once_until_its_files_change(tmp_path: Path) -> None:
    make_qwen3(tmp_path / "toy")
    config = tmp_path / "toy" / "config.json"
    layers = json.loads(config.read_text())["num_hidden_layers"]
    change(config, num_hidden_layers=layers + 1)

    async def body(runtime: Runtime) -> None:
        with pytest.raises(CheckpointUnusable, match=r"config\.json"):
            await text(runtime, "toy")
        assert all(worker.stopping for worker in runtime._supervisor.runners)
        for again in (text(runtime, "toy"), runtime.load("toy")):
            with pytest.raises(CheckpointUnusable):
                await asyncio.wait_for(again, 5)
            assert all(worker.stopping for worker in runtime._supervisor.runners)
        assert runtime.health().ok
        change(config, num_hidden_layers=layers)
        await text(runtime, "toy")

    run(tmp_path, body)


@promise("checkpoints:refused-once")
@pytest.mark.parametrize(
    ("tokenizer", "says"), [({"decoder": {"type": "Riddle"}}, "Riddle"), ({"model": {"vocab": 3}}, "vocabulary")]
)
def test_a_tokenizer_that_cannot_be_run_is_refused_before_weights_are_read(
    tmp_path: Path, tokenizer: dict[str, Any], says: str
) -> None:
    make_qwen3(tmp_path / "toy")
    change(tmp_path / "toy" / "tokenizer.json", **tokenizer)

    async def body(runtime: Runtime) -> None:
        with pytest.raises(CheckpointUnusable, match=says):
            await text(runtime, "toy")
        assert runtime.model("toy").phase == "unloaded" and not runtime._supervisor.state.faults

    run(tmp_path, body)


@promise("checkpoints:sampling")
def test_a_checkpoints_own_sampling_is_shown_and_obeyed_unless_it_is_switched_off(tmp_path: Path) -> None:
    make_qwen3(tmp_path / "toy")
    (tmp_path / "toy" / "generation_config.json").write_text(json.dumps({"temperature": 0.0, "top_p": 9}))

    async def texts(runtime: Runtime) -> set[str]:
        found: set[str] = set()
        for seed in range(3):
            sampling = Sampling(max_tokens=12, seed=seed, unset=("temperature",))
            async with aclosing(runtime.run(ChatRequest("toy", (Message("user", "hello"),), sampling))) as events:
                found.add("".join([event.text async for event in events if isinstance(event, Delta)]))
        return found

    async def obeyed(runtime: Runtime) -> None:
        assert runtime.model("toy").default_sampling == {"temperature": 0.0}
        assert len(await texts(runtime)) == 1

    async def ignored(runtime: Runtime) -> None:
        assert runtime.model("toy").default_sampling == {}
        assert len(await texts(runtime)) > 1

    run(tmp_path, obeyed)
    run(tmp_path, ignored, checkpoint_sampling=False)
