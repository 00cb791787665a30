"""What differs between macOS and Linux. Every branch on the operating system stands here, decided from a `Host`."""

import sys
from typing import NamedTuple


class Host(NamedTuple):
    """Facts of a machine; `system` is named as in `sys.platform`."""

    system: str = sys.platform

    @property
    def computes_on_gpu(self) -> bool:
        """MLX computes on Metal there, and on the processor elsewhere."""
        return self.system == "darwin"

    @property
    def loads_openblas(self) -> bool:
        """MLX's own BLAS is slow on Linux; on macOS it uses Accelerate."""
        return self.system == "linux"

    @property
    def tunes_malloc(self) -> bool:
        """The C library has glibc's `mallopt`."""
        return self.system == "linux"

    @property
    def limits_address_space(self) -> bool:
        """The kernel obeys RLIMIT_AS: macOS accepts it and ignores it."""
        return self.system == "linux"

    @property
    def measures_footprint(self) -> bool:
        """The kernel ends processes by their physical footprint, which the resident set doesn't show there."""
        return self.system == "darwin"

    @property
    def reports_pressure(self) -> bool:
        """The system says how scarce memory is, and how hot the machine."""
        return self.system == "darwin"

    def keep_awake_command(self, process: int) -> tuple[str, ...]:
        """What prevents idle sleep until that process ends; empty where nothing has to."""
        return ("/usr/bin/caffeinate", "-i", "-w", str(process)) if self.system == "darwin" else ()
