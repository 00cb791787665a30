"""Who fails is left out or ends the run; turns alternate."""

from pathlib import Path

import pytest

from bench.contenders import chat as contenders
from bench.contenders.chat import MLX_LM
from bench.scale import QUICK
from bench.session import Session
from bench.streams import BenchFailed


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(QUICK, rounds=1, threads=1, work=tmp_path)


def test_a_server_of_somebody_else_that_fails_is_left_out_with_a_note(session: Session) -> None:
    (other,) = [one for one in contenders.others(session.small, 1, session.logs) if one.name == MLX_LM]
    with session.left_out_if_it_fails(other.name):
        raise BenchFailed("it doesn't start; the log:\nlong")
    assert session.notes == ["mlx-lm.server was left out: it doesn't start; the log:"]


def test_our_own_failure_ends_the_run(session: Session) -> None:
    ours = contenders.ours(session.small, 1, session.logs)
    with pytest.raises(BenchFailed), session.left_out_if_it_fails(ours.name):
        raise BenchFailed("it doesn't start")


def test_every_second_round_goes_the_other_way(session: Session) -> None:
    every = contenders.in_process(session.small, 1, session.logs)
    names = [one.name for one in every]
    assert [one.name for one in session.turns(every, 0)] == names
    assert [one.name for one in session.turns(every, 1)] == names[::-1]


def test_a_note_is_said_once(session: Session) -> None:
    session.note("beware")
    session.note("beware")
    assert session.notes == ["beware"]


def test_what_others_use_of_the_processor_is_a_share(session: Session) -> None:
    assert 0.0 <= session.others.share() <= 1.0
