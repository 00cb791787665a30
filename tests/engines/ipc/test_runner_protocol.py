import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.ipc import job, runner_protocol
from engines.types import errors
from engines.types.audio import PieceText
from engines.types.chat import AudioPart, ChatRequest, Delta, Done, FilePart, ImagePart, Message, TextPart
from engines.types.common import Timings, Usage

REPORTS: list[runner_protocol.Report] = [
    runner_protocol.Hello(7, "cpu", 0),
    runner_protocol.Said(1, Delta("好")),
    runner_protocol.Said(1, PieceText("好", language="yue")),
    runner_protocol.Finished(1, Done("length", Usage(3, 4), Timings(0.0, 0.1, 0.2))),
    job.Failed(2, errors.Failure.of(errors.InvalidRequest("no", param="stop"))),
    runner_protocol.Beat(9, 0.5, 1, 2),
]


@given(st.lists(st.integers(0, 400), max_size=12))
def test_frames_cut_at_any_places_give_the_same_messages(cuts: list[int]) -> None:
    stream = b"".join(runner_protocol.encode(report) for report in REPORTS)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder: runner_protocol.FrameDecoder[runner_protocol.Report] = runner_protocol.FrameDecoder(runner_protocol.Report)
    got = [m for a, b in zip(places, places[1:], strict=False) for m in decoder.feed(stream[a:b])]
    assert got == REPORTS


def test_a_command_survives_the_wire_whole() -> None:
    command = runner_protocol.Prepare(4, ChatRequest("m", (Message("user", "你好 🙂"),)))
    decoder: runner_protocol.FrameDecoder[runner_protocol.Command] = runner_protocol.FrameDecoder(
        runner_protocol.Command
    )
    assert decoder.feed(runner_protocol.encode(command)) == [command]


def test_the_parts_of_a_message_survive_the_wire_and_their_payloads_stay_in_their_files() -> None:
    parts = (
        TextPart("Who speaks here?"),
        ImagePart("/spool/1", "image/png", b"a digest"),
        FilePart("/spool/2", "application/pdf", b"another"),
        AudioPart("/spool/3", "audio/wav", b"a third"),
    )
    command = runner_protocol.Prepare(4, ChatRequest("m", (Message("user", parts),)))
    decoder: runner_protocol.FrameDecoder[runner_protocol.Command] = runner_protocol.FrameDecoder(
        runner_protocol.Command
    )
    assert decoder.feed(runner_protocol.encode(command)) == [command]


def test_a_frame_beyond_the_limit_is_refused_before_it_is_stored() -> None:
    with pytest.raises(runner_protocol.FrameTooLarge):
        runner_protocol.FrameDecoder[runner_protocol.Report](runner_protocol.Report).feed(
            (runner_protocol.MAX_FRAME + 1).to_bytes(4, "big")
        )
