"""What the figures were measured on."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench import processes
from bench.libraries.jobs import Device

PACKAGES = (
    "mlx",
    "mlx-metal",
    "mlx-cuda-12",
    "mlx-cuda-13",
    "mlx-lm",
    "mlx-vlm",
    "transformers",
    "uvicorn",
    "httpx2",
    "mlx-local-inference",
)


class Others:
    """How much of the processor somebody else used since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def share(self) -> float:
        """From 0 to 1 of all cores."""
        elapsed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        theirs = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return min(1.0, max(0.0, theirs / elapsed))


def _busy_seconds() -> float:
    """Of all cores, also what a hypervisor took away."""
    times = psutil.cpu_times()
    return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))


def _own_seconds() -> float:
    """This process, and every child that has ended and was waited for: ask when all have."""
    times = psutil.Process().cpu_times()
    kinds = ("user", "system", "children_user", "children_system")
    return sum(getattr(times, kind, 0.0) for kind in kinds)


def describe(threads: int, blas: Mapping[str, Sequence[str]], device: Device | None) -> dict[str, object]:
    """`device`: None if nobody asked for it."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "device": device and device.about,
        "mlx_settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MLX_")},
        "threads": threads,
        "openblas": processes.openblas(),
        "blas_loaded": {name: list(libraries) for name, libraries in blas.items()},
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return platform.processor()
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
