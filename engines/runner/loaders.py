"""Which preparer and which engine a checkpoint has, by the registry of architectures. Runs in its runner."""

import importlib
from pathlib import Path
from typing import Any, Protocol, cast

from engines.models import checkpoint
from engines.models.registry import ARCHITECTURES, Architectures
from engines.runner.device_lock import DeviceLock
from engines.runner.engine import Engine, Preparer
from engines.types.errors import CheckpointUnusable


class Loader(Protocol):
    """What the module that an architecture names as its `loader` has."""

    def preparer(self, folder: Path, context_limit: int) -> Preparer[Any, Any]:
        """Reads the tokenizer and what else requests are prepared with. Raises `CheckpointUnusable` for what can't be
        run, before any weight is read."""

    def engine(self, folder: Path, kv_bytes: int, lock: DeviceLock | None) -> Engine[Any]:
        """Loads the weights. What the engine keeps beside them fits into `kv_bytes`; long passes share the device by
        `lock`."""


class Loaders:
    """The loaders of all architectures, each imported when it is first needed, or by `import_all`."""

    def __init__(self, architectures: Architectures = ARCHITECTURES) -> None:
        self._architectures = architectures

    def import_all(self) -> None:
        """What takes time of all that any kind of model needs: a spare runner does it ahead."""
        for architecture in self._architectures:
            importlib.import_module(architecture.loader)

    def preparer(self, folder: Path, context_limit: int) -> Preparer[Any, Any]:
        return self._loader(folder).preparer(folder, context_limit)

    def engine(self, folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> Engine[Any]:
        return self._loader(folder).engine(folder, kv_bytes, lock)

    def _loader(self, folder: Path) -> Loader:
        found = checkpoint.inspect(folder, self._architectures).entry
        if found is None:
            raise CheckpointUnusable(f"{folder} holds a model of a kind that can't be run.")
        return cast(Loader, importlib.import_module(found.loader))
