"""A runner's helper: what is long, endless or left alone holds up nobody else."""

import json
import queue
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from demo.checkpoints import make_qwen3
from engines.ipc import job, runner_protocol
from engines.runner.chat import template as templates
from engines.runner.helper import LONG, Helper
from engines.runner.loaders import Loaders
from engines.runner.tokenization import encoding
from engines.types.chat import ChatRequest, CompletionRequest, Message
from tests.promises import promise

Outbox = queue.SimpleQueue[Sequence[runner_protocol.Report]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen3")
    make_qwen3(made)
    config = json.loads((made / "config.json").read_text(encoding="utf-8"))
    (made / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10_000_000}), encoding="utf-8")
    return made


def opened(folder: Path, context: int = 4096) -> tuple[Helper, Outbox]:
    outbox: Outbox = queue.SimpleQueue()
    helper = Helper(outbox, Loaders())
    helper.start()
    helper.put(runner_protocol.Open(str(folder), context))
    assert isinstance(outbox.get(timeout=60)[0], runner_protocol.Opened)
    return helper, outbox


def chat(text: str) -> ChatRequest:
    return ChatRequest("m", (Message("user", text),))


@promise("chat:length:refused")
@pytest.mark.parametrize("unit", ["word ", "a", "今天天氣好好，", "今", "<|im_end|>", "\n \n"])
def test_a_text_that_cannot_fit_is_refused_at_once_whatever_it_is_made_of(folder: Path, unit: str) -> None:
    helper, outbox = opened(folder)
    text = "x" + unit * (8_000_000 // len(unit.encode())) + "x"
    began = time.monotonic()
    commands = (
        runner_protocol.Prepare(1, chat(text)),
        runner_protocol.Prepare(2, CompletionRequest("m", text)),
        runner_protocol.Tokenize(3, chat(text)),
        runner_protocol.Tokenize(4, CompletionRequest("m", text)),
    )
    for command in commands:
        helper.put(command)
        (report,) = outbox.get(timeout=60)
        assert isinstance(report, job.Failed), report
        assert report.failure.error().status == 400
    assert time.monotonic() - began < 10


@promise("chat:length:pieces")
def test_a_short_request_passes_a_long_one_by(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PIECE", 256)
    helper, outbox = opened(folder, 10_000_000)
    helper.put(runner_protocol.Prepare(1, chat("The weather is fine today, they say.\n" * (20 * LONG // 37))))
    helper.put(runner_protocol.Prepare(2, chat("hello")))
    assert [outbox.get(timeout=60)[0].id for _ in range(2)] == [2, 1]  # type: ignore[union-attr]
    assert helper.take(1) is not None and helper.take(2) is not None


@promise("chat:length:pieces")
def test_what_was_left_alone_is_not_made_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PIECE", 256)
    helper, outbox = opened(folder, 10_000_000)
    long = chat("The weather is fine today, they say.\n" * (200 * LONG // 37))
    helper.put(runner_protocol.Prepare(1, long))
    helper.put(runner_protocol.Tokenize(2, long))
    helper.put(job.Cancel(1))
    helper.put(job.Cancel(2))
    helper.put(runner_protocol.Prepare(3, chat("y" * (LONG + 1))))
    began = time.monotonic()
    assert outbox.get(timeout=60)[0].id == 3  # type: ignore[union-attr]
    assert time.monotonic() - began < 10
    assert helper.take(1) is None


@promise("chat:template:bounds")
def test_a_conversation_without_end_for_its_template_fails_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "RENDER_SECONDS", 0.3)
    shutil.copytree(folder, tmp_path / "copy")
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    text = "{% for m in messages %}{{ m.content }}{% if m.content == 'loop' %}" + loop + "{% endif %}{% endfor %}"
    (tmp_path / "copy" / "chat_template.jinja").write_text(text, encoding="utf-8")
    helper, outbox = opened(tmp_path / "copy")
    helper.put(runner_protocol.Prepare(1, chat("loop")))
    helper.put(runner_protocol.Prepare(2, chat("hello")))
    (first,), (second,) = outbox.get(timeout=60), outbox.get(timeout=60)
    assert isinstance(first, job.Failed) and "no end" in first.failure.error().message
    assert isinstance(second, runner_protocol.Prepared)
