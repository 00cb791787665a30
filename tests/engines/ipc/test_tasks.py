"""What is repeated doesn't end of one failure, and what keeps failing is told once."""

import logging
import sys

import pytest

from engines.host.awake import LINGER_SECONDS, RETRY_SECONDS, KeepAwake
from engines.ipc.tasks import RecurringFault


def test_what_keeps_failing_is_told_once_and_when_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    fault = RecurringFault("a look")
    with caplog.at_level(logging.INFO):
        for message in ("a", "a", "a", "b", None, None, "a"):
            with fault.told():
                if message is not None:
                    raise OSError(message)
    assert [record.getMessage() for record in caplog.records] == [
        "a look failed; it is tried again",
        "a look failed; it is tried again",
        "a look works again",
        "a look failed; it is tried again",
    ]


def test_a_mac_that_cant_be_kept_awake_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    awake = KeepAwake(("/no/such/program",))
    for now in (0.0, 0.25, 0.5, RETRY_SECONDS + 1):
        awake.wanted(True, now)
    awake.wanted(False, 999.0)
    assert len(caplog.records) == 1
    assert "/no/such/program" in caplog.text


def test_many_short_requests_share_one_helper() -> None:
    awake = KeepAwake((sys.executable, "-c", "import time; time.sleep(60)"))
    awake.wanted(True, 0.0)
    first = awake._helper
    awake.wanted(False, 1.0)
    awake.wanted(True, 2.0)
    awake.wanted(False, 2.0 + LINGER_SECONDS - 0.1)
    assert awake._helper is first
    awake.wanted(False, 2.0 + LINGER_SECONDS)
    assert awake._helper is None
