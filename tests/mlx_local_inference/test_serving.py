from pathlib import Path

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
