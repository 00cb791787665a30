"""Importing mlx-lm and mlx-audio without the libraries that only their tokenizers, downloads and file readers use.

A runner has tokenizers and readers of its own. Without the libraries below, all that it imports takes 1.4 s and 73 MB
instead of 6.9 s and 162 MB (one run of each, one after the other, on one loaded Linux machine).
"""

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

UNUSED = ("transformers", "huggingface_hub", "scipy")


class _PlaceholderType(type):
    """Of classes that modules inherit from, register and name in annotations while they are imported."""

    def register(cls, *given: object, **named: object) -> None:
        """Transformers' way to make a class known. Does nothing."""

    def __call__(cls, *given: object, **named: object) -> object:
        raise RuntimeError(f"{cls.__name__} was called in a runner, which doesn't import its library")


class _Placeholders(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of `libraries`, each holding whatever is asked for."""

    def __init__(self, libraries: frozenset[str]) -> None:
        self._libraries = libraries

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in self._libraries:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__dict__["__getattr__"] = _placeholder
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it until it is asked for."""


def _placeholder(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return _PlaceholderType(name, (), {})


@contextlib.contextmanager
def without(libraries: Sequence[str] = UNUSED) -> Iterator[None]:
    """While it lasts, imports of `libraries` give placeholders, but for those that are imported already.

    After it, they are imported as ever: what has a placeholder keeps it.
    """
    missing = frozenset(libraries) - sys.modules.keys()
    finder = _Placeholders(missing)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in missing]:
            del sys.modules[name]
