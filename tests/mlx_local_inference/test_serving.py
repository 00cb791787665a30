from pathlib import Path
from types import SimpleNamespace

import pytest

from mlx_local_inference import serving
from mlx_local_inference.settings import Settings


@pytest.mark.parametrize(
    ("named", "demo", "folder"),
    [
        ("/recorded/voices", False, "/recorded/voices"),
        ("/recorded/voices", True, "/recorded/voices"),
        ("~/voices", True, "{home}/voices"),
        (None, False, "{home}/.mlx-server/voices"),
        (None, True, "/scratch/voices"),
    ],
)
def test_the_folder_of_voices_that_is_named_holds_in_a_demo_too(named: str | None, demo: bool, folder: str) -> None:
    settings = Settings() if named is None else Settings(voices_dir=named)
    options = serving._audio_options(settings, serving.Command(demo=demo), Path("/scratch"))
    assert str(options.voices) == folder.format(home=Path.home())


def test_the_memory_that_the_user_sets_for_models_holds_up_to_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    total = 128 << 30
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=total))
    budgets = [
        serving._runtime_options(Settings(memory_budget_gb=asked)).limits.budget for asked in (None, 8.0, 110.0, 999.0)
    ]
    assert budgets == [96 << 30, 8 << 30, 110 << 30, total]
