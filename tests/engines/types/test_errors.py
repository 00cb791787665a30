import errno
import os

import pytest

from engines.types import errors


def test_every_error_has_a_status_a_type_and_a_code_of_its_own() -> None:
    leaves = errors.leaves()
    assert len({leaf.code for leaf in leaves}) == len(leaves)
    assert all(400 <= leaf.status < 600 for leaf in leaves)


def test_an_error_survives_being_data() -> None:
    for leaf in errors.leaves():
        back = errors.Failure.of(leaf("what to do", param="model", retry_after=2.0)).error()
        assert (type(back), back.message, back.param, back.retry_after) == (leaf, "what to do", "model", 2.0)


def test_a_code_of_a_newer_peer_is_an_internal_error() -> None:
    assert isinstance(errors.Failure("from_the_future", "hm").error(), errors.InternalError)


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EMFILE, 503), (errno.ENFILE, 503), (errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.ENOENT, None)],
)
def test_a_want_of_the_system_is_told_as_what_it_is(number: int, status: int | None) -> None:
    told = errors.shortage(OSError(number, os.strerror(number)))
    assert (told and told.status) == status
    assert errors.shortage(ValueError()) is None
