"""Who fails is left out or ends the run; turns alternate."""

from pathlib import Path

import pytest

from bench.contenders import in_process, servers
from bench.contenders.names import MLX_LM
from bench.scale import QUICK
from bench.session import BenchSession
from bench.streams import BenchFailed


@pytest.fixture
def session(tmp_path: Path) -> BenchSession:
    return BenchSession(QUICK, rounds=1, threads=1, work=tmp_path)


def test_a_server_of_somebody_else_that_fails_is_left_out_with_a_note(session: BenchSession) -> None:
    (other,) = [one for one in servers.others(session.small, 1, session.logs) if one.name == MLX_LM]
    with session.left_out_if_it_fails(other.name):
        raise BenchFailed("it doesn't start; the log:\nlong")
    assert session.notes == ["mlx-lm.server was left out: it doesn't start; the log:"]


def test_our_own_failure_ends_the_run(session: BenchSession) -> None:
    ours = servers.ours(session.small, 1, session.logs)
    with pytest.raises(BenchFailed), session.left_out_if_it_fails(ours.name):
        raise BenchFailed("it doesn't start")


def test_every_second_round_goes_the_other_way(session: BenchSession) -> None:
    every = in_process.batches(session.small, 1, session.logs)
    names = [one.name for one in every]
    assert [one.name for one in session.turns(every, 0)] == names
    assert [one.name for one in session.turns(every, 1)] == names[::-1]


def test_a_note_is_said_once(session: BenchSession) -> None:
    session.note("beware")
    session.note("beware")
    assert session.notes == ["beware"]


def test_what_others_use_of_the_processor_is_a_share(session: BenchSession) -> None:
    assert 0.0 <= session.others.share() <= 1.0
