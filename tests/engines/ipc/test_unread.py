"""Clients that don't read what they asked for."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.ipc.unread import Unread, to_end
from engines.models.catalog import Catalog, Roots
from engines.service import pool
from engines.service.options import RuntimeOptions
from engines.service.pool import Job, PoolLimits, Resident, Spec, State
from engines.service.runtime import Runtime
from engines.types.chat import ChatRequest, Delta, Done, Message, Sampling
from engines.types.errors import ClientTooSlow
from tests.end_to_end.checkpoints import make_endless
from tests.promises import promise

ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100)), max_size=8)


@promise("core:slow-client:place")
@given(ROWS, st.dictionaries(st.sampled_from("ab"), st.integers(0, 4)))
def test_only_the_longest_unread_end_and_no_more_than_wait(
    rows: list[tuple[str, float]], waiting: dict[str, int]
) -> None:
    unread = [Unread(number, model, since) for number, (model, since) in enumerate(rows)]
    ended = [unread[id] for id in to_end(unread, waiting, 100.0)]
    for model in "ab":
        late = sorted(one.since for one in unread if one.model == model and one.since < 70)
        assert [one.since for one in ended if one.model == model] == late[: waiting.get(model, 0)]


def test_who_waits_for_memory_may_gain_by_an_end_on_any_model() -> None:
    limits = PoolLimits(1, max_running=1, queue_limit=9, idle_unload=-1.0, patience=30.0)
    loaded = {model: Resident(Spec(model, 1, 0), "ready", 1) for model in ("chat", "embed")}
    state = State(limits, loaded, queue=[Job(1, "chat", 0, 0.0), Job(2, "big", 0, 0.0)])
    assert pool.held_up(state) == {"chat": 2, "embed": 1}


@promise("core:slow-client:place")
def test_a_client_that_never_reads_loses_its_place_to_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_endless(tmp_path / "endless", layers=1)
    monkeypatch.setattr("engines.ipc.unread.PATIENCE_SECONDS", 0.5)
    limits = PoolLimits(4 << 30, max_running=1, queue_limit=4, idle_unload=-1.0, patience=30.0)

    def ask(max_tokens: int) -> ChatRequest:
        sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        return ChatRequest("endless", (Message("user", "hello"),), sampling)

    async def main() -> None:
        catalog = Catalog(Roots(configured=(tmp_path,)), {})
        async with asyncio.timeout(60), Runtime(catalog, RuntimeOptions(limits)) as runtime:
            async with aclosing(runtime.run(ask(2000))) as unread:
                await anext(unread)
                await asyncio.sleep(2.0)  # nobody waits
                assert runtime.model("endless").running == 1
                async with aclosing(runtime.run(ask(3))) as other:
                    assert isinstance([event async for event in other][-1], Done)
                read = 0
                with pytest.raises(ClientTooSlow, match="read"):
                    async for event in unread:
                        read += isinstance(event, Delta)
                assert read >= 32
            assert runtime.model("endless").running == 0 and not runtime._admission.busy

    asyncio.run(main())
