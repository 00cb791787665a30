"""What a runner leaves out while it imports mlx-lm and mlx-audio."""

import subprocess
import sys

import pytest

from engines.runner.lean_imports import UNUSED

PRELUDE = "import sys; from engines.runner import lean_imports\n"


def run(code: str) -> str:
    """What `code` prints, in a process that has imported nothing else."""
    done = subprocess.run([sys.executable, "-P", "-c", PRELUDE + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_module_that_inherits_from_registers_and_names_what_is_left_out_can_be_imported() -> None:
    said = run(
        "with lean_imports.without(('nowhere',)):\n"
        "    import nowhere.deep as deep\n"
        "    from nowhere import Base, Auto\n"
        "    class Ours(Base): pass\n"
        "    Auto.register('ours', ours=Ours)\n"
        "    def reads(one: Base | None) -> deep.Other: ...\n"
        "print(isinstance(3, Base), 'nowhere' in sys.modules, len(sys.meta_path) == len(set(map(id, sys.meta_path))))\n"
    )
    assert said == "False False True\n"


def test_what_is_called_all_the_same_says_so() -> None:
    said = run(
        "with lean_imports.without(('nowhere',)): from nowhere import Reader\n"
        "try: Reader('file')\n"
        "except RuntimeError as error: print(error)\n"
    )
    assert said == "Reader was called in a runner, which doesn't import its library\n"


def test_afterwards_the_library_itself_is_imported() -> None:
    said = run(
        "with lean_imports.without(('colorsys',)): from colorsys import rgb_to_hsv as none\n"
        "import colorsys; print(colorsys.rgb_to_hsv(0, 0, 0))\n"
    )
    assert said == "(0.0, 0.0, 0)\n"


def test_what_is_imported_already_stays_as_it_is() -> None:
    said = run(
        "import colorsys\n"
        "with lean_imports.without(('colorsys',)): from colorsys import rgb_to_hsv\n"
        "print(rgb_to_hsv(0, 0, 0))\n"
    )
    assert said == "(0.0, 0.0, 0)\n"


@pytest.mark.parametrize("library", UNUSED)
def test_a_runner_imports_none_of_them(library: str) -> None:
    said = run(
        "from engines.runner.loaders import Loaders\n"
        "with lean_imports.without(): Loaders().import_all()\n"
        f"print([name for name in sys.modules if name.partition('.')[0] == {library!r}])\n"
    )
    assert said == "[]\n"
