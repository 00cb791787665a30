import logging

import pytest

from http_server.transport.connections import MOST_REFUSED, Connections


class Link:
    def __init__(self, since: float | None) -> None:
        self.since = since
        self.closed = False

    def expendable_since(self, now: float) -> float | None:
        return self.since

    def give_way(self) -> None:
        self.closed = True


def filled(*links: Link) -> Connections:
    connections = Connections(len(links), lambda: 100.0)
    assert all(connections.admit(link) for link in links)
    return connections


def test_the_connection_that_has_been_idle_longest_makes_room() -> None:
    links = [Link(90.0), Link(None), Link(80.0)]
    connections = filled(*links)
    assert connections.admit(Link(100.0))
    assert [link.closed for link in links] == [False, False, True]


def test_who_has_just_come_or_is_being_answered_stays() -> None:
    links = [Link(None), Link(99.9)]
    assert not filled(*links).admit(Link(100.0))
    assert not any(link.closed for link in links)


def test_a_place_is_free_again_when_its_connection_left() -> None:
    busy = Link(None)
    connections = filled(busy)
    assert not connections.admit(Link(None))
    connections.left(busy)
    assert connections.admit(Link(None))


def test_only_some_of_the_refused_are_told_so() -> None:
    connections = filled(Link(None))
    assert [connections.hear_out(Link(None)) for _ in range(MOST_REFUSED + 1)] == [*[True] * MOST_REFUSED, False]


def test_a_shortage_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    connections = Connections(1, lambda: now[0])
    connections.admit(Link(None))
    with caplog.at_level(logging.WARNING):
        for now[0] in (0.0, 1.0, 59.0, 61.0):
            connections.admit(Link(None))
    assert len(caplog.records) == 2
