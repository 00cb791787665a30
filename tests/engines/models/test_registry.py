"""The registry of architectures, and a kind of model that is added to it."""

import asyncio
import importlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import httpx2
import pytest
import uvicorn

from engines.models import registry
from engines.models.catalog import Catalog, NotInstalled, Roots
from engines.models.registry import ARCHITECTURES, Architecture, Architectures
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.service import AudioOptions, Local
from engines.types.common import DOES, Capability
from engines.types.errors import WrongCapability
from openai_compat import app
from tests.engines.models.echo_kind import ECHO
from tests.promises import promise

PROJECT = Path(__file__).parents[3]
LIMITS = PoolLimits(4 << 30, max_running=4, queue_limit=4, idle_unload=-1.0, patience=30.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    folder = tmp_path / "models" / "parrot"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "echo"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"12345")
    return Catalog(Roots(configured=(tmp_path / "models",)), {}, (*ARCHITECTURES, ECHO))


@asynccontextmanager
async def served(local: Local) -> AsyncIterator[httpx2.AsyncClient]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app.build(local, app.AppOptions()), log_config=None))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        await running


@promise("house:kind-added")
def test_a_kind_that_is_added_by_its_entry_is_served_over_http_by_a_runner(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))  # where a runner finds the module of the kind
    options = RuntimeOptions(LIMITS, runner=("-P", "-m", ECHO.loader))

    async def ask(client: httpx2.AsyncClient, text: str) -> str:
        body = {"model": "parrot", "messages": [{"role": "user", "content": text}]}
        whole = await client.post("/v1/chat/completions", json=body)
        assert whole.json()["choices"][0]["message"]["content"].split() == text.split(), whole.text
        async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
            lines = [line.removeprefix("data: ") async for line in stream.aiter_lines() if line.startswith("data: {")]
        return "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines)

    async def main() -> None:
        async with Local(catalog, options, AudioOptions(tmp_path / "voices")) as local, served(local) as client:
            texts = ["one", "all that was said " * 9]
            answers = await asyncio.gather(*(ask(client, text) for text in texts))
            assert [answer.split() for answer in answers] == [text.split() for text in texts]
            status = (await client.get("/v1/models/parrot")).json()
            assert (status["capability"], status["phase"]) == ("chat", "ready")

    asyncio.run(main())


@promise("house:kind-added")
def test_a_kind_that_is_added_is_known_by_its_default_name_and_refused_by_its_capability(catalog: Catalog) -> None:
    entry = catalog.resolve("toys/parrot")
    assert entry.checkpoint.entry is ECHO and entry.checkpoint.kv_wish(1000) == 0
    with pytest.raises(WrongCapability, match="chats.*speaks"):
        catalog.resolve("parrot", "speech")
    elsewhere = Catalog(Roots(), {}, (ECHO,)).entries()
    assert elsewhere == [NotInstalled("parrot", "toys/parrot", "chat")]


def test_a_kind_in_no_registry_is_refused_by_its_name(catalog: Catalog) -> None:
    without = Catalog(Roots(configured=(Path(catalog.resolve("parrot").key).parent,)), {})
    with pytest.raises(WrongCapability, match="an? echo model"):
        without.resolve("parrot")


def duplicates(names: list[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


@pytest.mark.parametrize("kinds", [ARCHITECTURES, (*ARCHITECTURES, ECHO)])
def test_no_two_entries_claim_the_same_model_type_or_name(kinds: Architectures) -> None:
    assert not duplicates([model_type for entry in kinds for model_type in entry.model_types])
    assert not duplicates([name for entry in kinds for name in entry.defaults])


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.loader)
def test_the_module_that_an_entry_names_makes_a_preparer_and_an_engine(entry: Architecture) -> None:
    module = importlib.import_module(entry.loader)
    assert callable(module.preparer) and callable(module.engine)


def test_a_configuration_is_of_one_kind() -> None:
    aligner = {"model_type": "qwen3_asr", "thinker_config": {"model_type": "qwen3_forced_aligner"}}
    assert registry.find(ARCHITECTURES, aligner) == ("qwen3_forced_aligner", registry.ALIGNER)
    assert registry.find(ARCHITECTURES, {"model_type": "qwen3_asr"}) == ("qwen3_asr", registry.QWEN3_ASR)
    assert registry.find(ARCHITECTURES, {"model_type": ["qwen3"]}) == ("", None)
    assert registry.find((), {"model_type": "qwen3"}) == ("qwen3", None)


def test_every_capability_has_a_verb() -> None:
    assert set(DOES) == set(get_args(Capability))
