import ctypes
from typing import Any, NamedTuple

import pytest

from engines.host.conditions import Conditions, Sensors
from engines.host.system import Host

MAC, LINUX = Host("darwin"), Host("linux")


class Charge(NamedTuple):
    percent: float
    power_plugged: bool | None


class FakeLibSystem:
    """Answers as libSystem does; `status` is what every call returns."""

    def __init__(self, level: int = 1, heat: int = 0, status: int = 0) -> None:
        self.level, self.heat, self.status = level, heat, status
        self.names: list[bytes] = []

    def sysctlbyname(self, name: bytes, old: Any, length: Any, new: None, new_length: Any) -> int:
        assert length._obj.value == 4 and new is None and new_length.value == 0
        self.names.append(name)
        old._obj.value = self.level
        return self.status

    def notify_register_check(self, name: bytes, token: Any) -> int:
        self.names.append(name)
        token._obj.value = 41
        return self.status

    def notify_get_state(self, token: Any, state: Any) -> int:
        assert token.value == 41 and isinstance(state._obj, ctypes.c_uint64)
        state._obj.value = self.heat
        return self.status


def missing() -> FakeLibSystem:
    raise OSError("no such library")


def no_battery() -> None:
    return None


def failing_battery() -> None:
    raise FileNotFoundError("/sys/class/power_supply")


def test_a_mac_says_how_scarce_memory_is_how_hot_it_is_and_how_full_its_battery() -> None:
    library = FakeLibSystem(level=2, heat=3)
    found = Sensors(MAC, lambda: library, lambda: Charge(61.0, False)).read()
    assert found == Conditions(2, 3, 61.0, False)
    assert library.names == [b"com.apple.system.thermalpressurelevel", b"kern.memorystatus_vm_pressure_level"]


def test_the_thermal_notification_is_registered_once() -> None:
    library = FakeLibSystem()
    sensors = Sensors(MAC, lambda: library, no_battery)
    assert sensors.read() == sensors.read() == Conditions(1, 0)
    assert library.names.count(b"com.apple.system.thermalpressurelevel") == 1


@pytest.mark.parametrize("library", [FakeLibSystem(status=1), FakeLibSystem(level=0, heat=30)])
def test_what_a_mac_refuses_to_say_or_says_in_other_terms_is_not_known(library: FakeLibSystem) -> None:
    assert Sensors(MAC, lambda: library, no_battery).read() == Conditions()


def test_without_the_library_nothing_but_the_battery_is_known() -> None:
    assert Sensors(MAC, missing, lambda: Charge(5.0, True)).read() == Conditions(None, None, 5.0, True)


def test_linux_loads_no_library_and_a_battery_that_fails_is_not_known() -> None:
    assert Sensors(LINUX, missing, failing_battery).read() == Conditions()


def test_the_machine_here_can_be_asked() -> None:
    assert isinstance(Sensors(Host()).read(), Conditions)
