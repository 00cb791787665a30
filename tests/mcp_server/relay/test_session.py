"""What a relay says to whom, whatever happens to the service; no socket, no process."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.relay.session import ABSENT, MAX_LINE, MOST_FAILURES, Session
from tests.promises import promise

INITIALIZED = {"method": "notifications/initialized"}


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def request(id: object, method: str = "tools/call") -> bytes:
    return line(id=id, method=method)


def taken(outbox: bytearray) -> list[dict[str, Any]]:
    """What stands in an outbox, which is empty then."""
    assert not outbox or outbox.endswith(b"\n")
    messages = [json.loads(one) for one in bytes(outbox).splitlines()]
    outbox.clear()
    return messages


def opened(session: Session) -> None:
    """The agent's handshake, with id 0."""
    session.from_client(request(0, "initialize"))
    session.connected()
    session.from_service(line(id=0, result={}))
    session.from_client(line(**INITIALIZED))
    assert [message.get("method") for message in taken(session.to_service)] == ["initialize", INITIALIZED["method"]]
    assert [message["id"] for message in taken(session.to_client)] == [0]


def test_a_service_that_ends_whenever_the_agent_was_made_known_to_it_is_not_tried_for_ever() -> None:
    session = Session()
    opened(session)
    session.lost("call again")
    session.from_client(request(1))
    for _ in range(MOST_FAILURES):
        assert session.wants_service
        session.connected()
        taken(session.to_service)
        session.from_service(line(id=0, result={}))
        assert session.to_service  # which nobody takes
        session.lost("call again")
    assert [message["id"] for message in taken(session.to_client)] == [1] and not session.wants_service


def test_what_was_under_way_is_told_and_the_next_process_knows_the_agent() -> None:
    session = Session()
    opened(session)
    session.from_client(request(1))
    session.from_client(request(2))
    taken(session.to_service)
    session.from_service(line(id=2, result={}))
    session.lost("call again")
    answer, error = taken(session.to_client)
    assert (answer["id"], error["id"], error["error"]["message"]) == (2, 1, "call again")
    assert not session.wants_service

    session.from_client(request("three"))
    assert session.wants_service and not session.to_service
    session.connected()
    assert [message["method"] for message in taken(session.to_service)] == ["initialize"]
    session.from_service(line(method="notifications/message"))
    session.from_service(line(id=0, result={}))
    assert [message.get("method") for message in taken(session.to_service)] == [INITIALIZED["method"], "tools/call"]
    assert [message.get("method") for message in taken(session.to_client)] == ["notifications/message"]


def test_an_agent_without_a_handshake_goes_on_without_one() -> None:
    session = Session()
    session.connected()
    session.from_client(request(1))
    taken(session.to_service)
    session.lost("gone")
    session.from_client(request(2))
    session.connected()
    assert [message["id"] for message in taken(session.to_service)] == [2]


def test_what_had_not_been_sent_when_the_process_went_is_for_the_next_one() -> None:
    session = Session()
    session.connected()
    for id in (1, 2, 3):
        session.from_client(request(id))
    del session.to_service[: len(request(1)) + 10]
    session.lost("gone")
    assert [message["id"] for message in taken(session.to_client)] == [1, 2]
    assert session.wants_service and not session.to_service
    session.connected()
    assert [message["id"] for message in taken(session.to_service)] == [3]


def test_a_handshake_that_was_refused_is_not_repeated() -> None:
    session = Session()
    session.connected()
    session.from_client(request(0, "initialize"))
    session.from_service(line(id=0, error={"code": -32022, "message": "no"}))
    session.lost("gone")
    session.from_client(request(1))
    session.connected()
    assert [message["id"] for message in taken(session.to_service)] == [1]


def test_a_handshake_under_way_is_tried_with_the_next_processes_but_not_for_ever() -> None:
    session = Session()
    session.from_client(request(0, "initialize"))
    for _ in range(MOST_FAILURES):
        assert session.wants_service and not session.to_client
        session.connected()
        assert [message["id"] for message in taken(session.to_service)] == [0]
        session.lost("gone")
    assert [message["error"]["message"] for message in taken(session.to_client)] == ["gone"]
    assert not session.wants_service


def test_a_process_that_dies_while_it_is_told_the_handshake_is_replaced_but_not_for_ever() -> None:
    session = Session()
    opened(session)
    session.lost("gone")
    session.from_client(request(1))
    for _ in range(MOST_FAILURES):
        assert session.wants_service and not session.to_client
        session.connected()
        session.lost("gone")
    assert [message["id"] for message in taken(session.to_client)] == [1]
    assert all(message["method"] != "tools/call" for message in taken(session.to_service))


def test_only_failures_in_a_row_are_told() -> None:
    session = Session()
    for id in (1, 2):
        session.from_client(request(id))
        for _ in range(MOST_FAILURES - 1):
            session.connected()
            session.lost("gone")
        session.connected()
        assert [message["id"] for message in taken(session.to_service)] == [id]
        session.from_service(line(id=id, result={}))
    assert ["result" in message for message in taken(session.to_client)] == [True, True]


def test_a_process_that_refuses_the_handshake_is_left_and_the_agent_told() -> None:
    session = Session()
    opened(session)
    session.lost("gone")
    session.from_client(request(1))
    session.connected()
    session.from_service(line(id=0, error={"code": -32602, "message": "no"}))
    assert session.phase == ABSENT and not session.wants_service
    (told,) = taken(session.to_client)
    assert told["id"] == 1 and "start the agent anew" in told["error"]["message"]


def test_what_concerns_a_process_that_is_gone_is_not_said_to_the_next() -> None:
    session = Session()
    opened(session)
    session.from_client(request(1))
    session.from_service(line(id="q", method="roots/list"))
    taken(session.to_service)
    session.lost("gone")
    session.connected()
    session.from_service(line(id=0, result={}))
    taken(session.to_service)
    session.from_client(line(method="notifications/cancelled", params={"requestId": 1}))
    session.from_client(line(id="q", result={}))
    assert not session.to_service


def test_a_request_taken_back_before_a_process_was_there_is_never_sent() -> None:
    session = Session()
    session.from_client(request(1))
    session.from_client(line(method="notifications/cancelled", params={"requestId": 1}))
    assert not session.wants_service
    session.connected()
    assert not session.to_service and not session.to_client


def test_a_notification_alone_starts_no_service() -> None:
    session = Session()
    opened(session)
    session.lost("gone")
    session.from_client(line(method="notifications/roots/list_changed"))
    assert not session.wants_service


def test_a_line_that_the_service_would_not_take_is_answered_and_costs_no_session() -> None:
    session = Session()
    opened(session)
    session.from_client(line(method="tools/call", params={"x": "y" * MAX_LINE}, id=5))
    (refused,) = taken(session.to_client)
    assert (refused["id"], refused["error"]["code"]) == (5, -32600) and str(MAX_LINE) in refused["error"]["message"]
    assert not session.to_service


@pytest.mark.parametrize(
    "unclear",
    [
        b"garbage",
        b"",
        b"[]",
        b"[1",
        b'{"a" 1}',
        b"\xff",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"id": 1, "method": "x"} {}',
        b'{"id": null, "method": "x"}',
    ],
)
def test_what_cannot_be_read_is_passed_on_or_told_without_an_id(unclear: bytes) -> None:
    session = Session()
    session.from_client(unclear)
    session.unreachable("nobody")
    (told,) = taken(session.to_client)
    assert (told["id"], told["error"]["message"]) == (None, "nobody")
    session.connected()
    session.from_client(unclear)
    assert bytes(session.to_service) == unclear + b"\n"


@promise("mcp:lines:ids")
@pytest.mark.parametrize("id", [0, -1, 1.5, 2**70, 1e300, "", "x", "\ud83d", None])
@pytest.mark.parametrize("wrong", [{}, {"method": 5}, {"method": "x", "params": 5}, {"method": "x", "result": 1}])
def test_a_request_with_any_id_is_answered_by_the_service_or_told_that_it_ended(id: Any, wrong: dict[str, Any]) -> None:
    session = Session()
    opened(session)
    session.from_client(line(id=id, **wrong))
    session.from_service(line(id=id, error={"code": -32600, "message": "wrong"}))
    assert [message["id"] for message in taken(session.to_client)] == [id]
    session.from_client(line(id=id, **wrong))
    taken(session.to_service)
    session.lost("gone")
    assert [(message["id"], message["error"]["message"]) for message in taken(session.to_client)] == [(id, "gone")]


@pytest.mark.parametrize("id", ["true", "[]", "{}", "NaN", "1e999"])
def test_what_cannot_be_an_id_is_told_without_one(id: str) -> None:
    session = Session()
    session.from_client(b'{"jsonrpc": "2.0", "method": "x", "id": ' + id.encode() + b"}")
    session.unreachable("nobody")
    assert [message["id"] for message in taken(session.to_client)] == [None]


class World:
    """An agent, processes that come and go, and between them a session; everything said is kept."""

    def __init__(self) -> None:
        self.session = Session()
        self.inboxes: list[list[dict[str, Any]]] = []
        self.unanswered: list[object] = []  # what the process that is there has been asked
        self.known: list[bool] = []  # of each process, whether the handshake was complete when it came
        self.heard: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self.cancelled: set[int] = set()
        self.noted = self.questions = 0
        self.questioners: dict[str, int] = {}

    def alive(self) -> bool:
        return self.session.phase != ABSENT

    def step(self, action: str, choice: int) -> None:
        getattr(self, f"do_{action}")(choice)
        # Now and then a process is slow to read.
        if choice != 5 and (said := taken(self.session.to_service)):
            assert self.alive()
            self.inboxes[-1] += said
            self.unanswered += [message["id"] for message in said if "id" in message and "method" in message]
        self.heard += taken(self.session.to_client)

    def do_open(self, choice: int) -> None:
        if not self.asked:
            self.asked.append(0)
            self.session.from_client(request(0, "initialize"))

    def do_initialized(self, choice: int) -> None:
        if not self.noted and self.accepted():
            self.noted = 1
            self.session.from_client(line(**INITIALIZED))

    def accepted(self) -> bool:
        return any(message.get("id") == 0 and "result" in message for message in self.heard)

    def do_ask(self, choice: int) -> None:
        id = len(self.asked) + 1
        self.asked.append(id)
        self.session.from_client(request(id))

    def do_cancel(self, choice: int) -> None:
        id = self.asked[choice % len(self.asked)] if self.asked else 0
        if id:
            self.cancelled.add(id)
            self.session.from_client(line(method="notifications/cancelled", params={"requestId": id}))

    def do_connect(self, choice: int) -> None:
        if not self.alive():
            self.inboxes.append([])
            self.known.append(self.noted == 1)
            self.unanswered = []
            self.session.connected()

    def do_die(self, choice: int) -> None:
        if self.alive():
            self.unanswered = []
            if choice > 2:
                del self.session.to_service[:3]  # a line of which it got the beginning
            self.session.lost("gone")

    def do_nobody(self, choice: int) -> None:
        if not self.alive():
            self.session.unreachable("nobody")

    def do_read(self, choice: int) -> None:
        """What the outbox holds; each step ends with that."""

    def do_answer(self, choice: int) -> None:
        if self.alive() and self.unanswered:
            id = self.unanswered.pop(choice % len(self.unanswered))
            self.session.from_service(line(id=id, result={}))

    def do_babble(self, choice: int) -> None:
        """The process answers what it was never asked, or has answered."""
        if self.alive() and choice not in self.unanswered:
            self.session.from_service(line(id=choice, result={}))

    def do_question(self, choice: int) -> None:
        if self.alive():
            self.questions += 1
            self.questioners[f"q{self.questions}"] = len(self.inboxes) - 1
            self.session.from_service(request(f"q{self.questions}", "roots/list"))

    def do_reply(self, choice: int) -> None:
        if self.questioners:
            ids = list(self.questioners)
            self.session.from_client(line(id=ids[choice % len(ids)], result={}))

    def finish(self) -> None:
        """From here on nothing dies, and all is read."""
        self.step("read", 0)
        while self.session.wants_service or self.unanswered:
            self.step("answer" if self.alive() else "connect", 0)


ACTIONS = [
    *["open", "initialized", "ask", "ask", "cancel", "connect", "connect", "die", "nobody"],
    *["answer", "answer", "babble", "question", "reply"],
]


@promise("mcp:relay:once")
@settings(max_examples=600)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5)), min_size=30, max_size=60))
def test_whatever_happens_each_request_is_sent_once_at_most_and_answered_once(steps: list[tuple[str, int]]) -> None:
    world = World()
    for action, choice in steps:
        world.step(action, choice)
    world.finish()

    answers = Counter(message["id"] for message in world.heard if "method" not in message)
    assert all(count == 1 for count in answers.values())
    assert set(world.asked) - world.cancelled <= set(answers) <= set(world.asked)

    sent = Counter(
        message["id"] for inbox in world.inboxes for message in inbox if "method" in message and message.get("id")
    )
    assert all(count == 1 for count in sent.values())

    for process, (inbox, known) in enumerate(zip(world.inboxes, world.known, strict=True)):
        methods = [message["method"] for message in inbox if "method" in message]
        assert methods.count("initialize") <= 1 and methods.count(INITIALIZED["method"]) <= 1
        if known and INITIALIZED["method"] in methods:
            assert methods[:2] == ["initialize", INITIALIZED["method"]]
        elif known:
            assert methods in ([], ["initialize"])
        replies = Counter(message["id"] for message in inbox if "method" not in message)
        assert all(count == 1 for count in replies.values())
        ids = {message.get("id") for message in inbox if "method" in message}
        for message in inbox:
            if message.get("method") == "notifications/cancelled":
                assert message["params"]["requestId"] in ids
            if "method" not in message:
                assert world.questioners[message["id"]] == process
