"""For all tests: examples that are the same each time, and nothing may block an event loop on which our code runs."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import blockbuster
import hypothesis
import pytest

from engines.host.system import Host
from engines.runner.main import prefer_openblas

prefer_openblas(Host())  # as runners do, before anything imports MLX

# A machine that is busy is no failure, and neither is an example that nobody has met before: those are looked for with
# HYPOTHESIS_PROFILE=searching.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("searching", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

HERE = Path(__file__).parent
IN_PROCESS = ("http_server", "openai_compat", "mcp_server", "engines/test_runtime.py", "engines/test_runners.py")
OURS = ["engines", "http_server", "openai_compat", "mcp_server", "mlx_local_inference"]
ALLOWED = [
    ("logging/__init__.py", "emit"),  # a line to stderr
    (
        "engines/service/runtime.py",
        "models",
    ),  # the catalog looks at the disk: fronts ask in a thread, tests where they are
    ("engines/service/runtime.py", "model"),
]


@contextmanager
def watching_the_event_loop() -> Iterator[list[str]]:
    """Any call of ours that blocks a running loop raises; all are listed, for a server answers 500 and goes on."""
    seen: list[str] = []

    class Seen(blockbuster.BlockingError):
        def __init__(self, function: str) -> None:
            super().__init__(function)
            seen.append(f"{function} blocks the event loop:\n{''.join(traceback.format_stack(limit=12)[:-2])}")

    with pytest.MonkeyPatch.context() as patch, blockbuster.blockbuster_ctx(scanned_modules=OURS) as watched:
        patch.setattr(blockbuster.blockbuster, "BlockingError", Seen)
        for place, function in ALLOWED:
            for one in watched.functions.values():
                one.can_block_in(place, function)
        yield seen


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    if not any(request.path.is_relative_to(HERE / place) for place in IN_PROCESS):
        yield
        return
    with watching_the_event_loop() as seen:
        yield
    assert not seen, "\n".join(seen)
