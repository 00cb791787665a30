import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import errors, wire
from engines.audio_types import PieceText
from engines.types import ChatRequest, Delta, Done, Message, Timings, Usage

REPORTS: list[wire.Report] = [
    wire.Hello(7, "cpu", 0),
    wire.Said(1, Delta("好")),
    wire.Said(1, PieceText("好", language="yue")),
    wire.Finished(1, Done("length", Usage(3, 4), Timings(0.0, 0.1, 0.2))),
    wire.Failed(2, errors.Failure.of(errors.InvalidRequest("no", param="stop"))),
    wire.Beat(9, 0.5, 1, 2),
]


@given(st.lists(st.integers(0, 400), max_size=12))
def test_frames_cut_at_any_places_give_the_same_messages(cuts: list[int]) -> None:
    stream = b"".join(wire.encode(report) for report in REPORTS)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder: wire.Decoder[wire.Report] = wire.Decoder(wire.Report)
    got = [m for a, b in zip(places, places[1:], strict=False) for m in decoder.feed(stream[a:b])]
    assert got == REPORTS


def test_a_command_survives_the_wire_whole() -> None:
    command = wire.Prepare(4, ChatRequest("m", (Message("user", "你好 🙂"),)))
    decoder: wire.Decoder[wire.Command] = wire.Decoder(wire.Command)
    assert decoder.feed(wire.encode(command)) == [command]


def test_a_frame_beyond_the_limit_is_refused_before_it_is_stored() -> None:
    with pytest.raises(wire.FrameTooLarge):
        wire.Decoder[wire.Report](wire.Report).feed((wire.MAX_FRAME + 1).to_bytes(4, "big"))
