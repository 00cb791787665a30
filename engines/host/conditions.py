"""In what conditions the machine is: memory pressure, heat, battery. What the system doesn't say is None."""

import ctypes
from collections.abc import Callable
from typing import NamedTuple, Protocol

import psutil

from engines.host.system import Host

# `kern.memorystatus_vm_pressure_level` (xnu, kern_memorystatus_notify.c): a bit each, so that there is no 3.
NORMAL, WARN, CRITICAL = 1, 2, 4
# OSThermalPressureLevel on macOS (libkern/OSThermalNotification.h), by number.
THERMAL_LEVELS = ("nominal", "moderate", "heavy", "trapping", "sleeping")
HEAVY = 2
_PRESSURE_NAME = b"kern.memorystatus_vm_pressure_level"
_THERMAL_NAME = b"com.apple.system.thermalpressurelevel"


class Conditions(NamedTuple):
    """`memory_pressure` is 1, 2 or 4; `thermal_pressure` an index of `THERMAL_LEVELS`; `battery_percent` 0 to 100."""

    memory_pressure: int | None = None
    thermal_pressure: int | None = None
    battery_percent: float | None = None
    on_mains: bool | None = None


class Battery(Protocol):
    """What psutil says of one; `power_plugged` None: not known."""

    @property
    def percent(self) -> float: ...
    @property
    def power_plugged(self) -> bool | None: ...


class LibSystem(Protocol):
    """libSystem.dylib, as ctypes gives it. Each function returns 0 for success."""

    def sysctlbyname(self, name: bytes, old: object, length: object, new: None, new_length: object, /) -> int: ...
    def notify_register_check(self, name: bytes, token: object, /) -> int: ...
    def notify_get_state(self, token: object, state: object, /) -> int: ...


def load_libsystem() -> LibSystem:
    """Raises `OSError` where there is none."""
    library: LibSystem = ctypes.CDLL("/usr/lib/libSystem.dylib")
    return library


def psutil_battery() -> Battery | None:
    """None: there is no battery, or nothing is known of it."""
    sensors: Callable[[], Battery | None] | None = getattr(psutil, "sensors_battery", None)
    return sensors() if sensors is not None else None


class Sensors:
    """Reads the conditions in microseconds, without privileges. On Linux only the battery is known."""

    def __init__(
        self,
        host: Host,
        load: Callable[[], LibSystem] = load_libsystem,
        battery: Callable[[], Battery | None] = psutil_battery,
    ) -> None:
        self._battery = battery
        self._library: LibSystem | None = None
        self._thermal_token: ctypes.c_int | None = None
        if host.reports_pressure:
            try:
                self._library = load()
            except OSError:
                return
            token = ctypes.c_int()
            if self._library.notify_register_check(_THERMAL_NAME, ctypes.byref(token)) == 0:
                self._thermal_token = token

    def read(self) -> Conditions:
        battery = self._read_battery()
        memory, thermal = self._memory_pressure(), self._thermal_pressure()
        if battery is None:
            return Conditions(memory, thermal)
        return Conditions(memory, thermal, battery.percent, battery.power_plugged)

    def _read_battery(self) -> Battery | None:
        try:
            return self._battery()
        except (OSError, NotImplementedError, psutil.Error, ValueError):
            return None

    def _memory_pressure(self) -> int | None:
        if self._library is None:
            return None
        level = ctypes.c_int()
        length = ctypes.c_size_t(ctypes.sizeof(level))
        no_length = ctypes.c_size_t(0)
        status = self._library.sysctlbyname(_PRESSURE_NAME, ctypes.byref(level), ctypes.byref(length), None, no_length)
        return level.value if status == 0 and level.value > 0 else None

    def _thermal_pressure(self) -> int | None:
        if self._library is None or self._thermal_token is None:
            return None
        state = ctypes.c_uint64()
        status = self._library.notify_get_state(self._thermal_token, ctypes.byref(state))
        return int(state.value) if status == 0 and state.value < len(THERMAL_LEVELS) else None
