import datetime
import html
import itertools
import re
import unicodedata

import pytest
import srt as other_srt  # type: ignore[import-untyped]
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from engines.text.subtitles import Cue, cues, srt, vtt
from engines.text.timing import apportioned
from engines.types.audio import Segment, Word

HAN = "因为今天的天气非常的好，所以我们决定一起到公园里面去散步，顺便买一点水果，回来以后还要做饭。"
ENGLISH = (
    "When the sun came up over the hills, the whole village was already awake and busy with the preparations for the "
    "feast, which would last until the early hours of the following day. Nobody slept."
)


def columns(line: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def bare(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]", "", text)


def text_of(made: tuple[Cue, ...]) -> str:
    return bare("".join(line for cue in made for line in cue.lines))


def check(made: tuple[Cue, ...]) -> None:
    for cue in made:
        assert 0 <= cue.start < cue.end <= cue.start + 7_000
        assert 1 <= len(cue.lines) <= 2
        assert all(line == line.strip() != "" and columns(line) <= 42 for line in cue.lines)
    assert all(one.end <= following.start for one, following in itertools.pairwise(made))


def test_a_cue_ends_at_a_mark_and_its_lines_are_balanced() -> None:
    made = cues(apportioned(HAN, 0, 11))
    check(made)
    assert [cue.lines for cue in made] == [
        ("因为今天的天气非常的好，", "所以我们决定一起到公园里面去散步，"),
        ("顺便买一点水果，回来以后还要做饭。",),
    ]


def test_latin_text_is_cut_between_words_and_at_marks() -> None:
    made = cues(apportioned(ENGLISH, 0, 14))
    check(made)
    assert " ".join(line for cue in made for line in cue.lines) == ENGLISH
    assert made[0].lines == ("When the sun came up over the hills,",)


@given(st.lists(st.sampled_from(["a", "and", "meeting", "recordings", "uninterruptedly"]), min_size=1, max_size=40))
def test_no_line_ends_within_a_word_that_fits_on_one(words: list[str]) -> None:
    made = cues([Segment(0, len(words) / 4, " ".join(words))])
    check(made)
    assert [word for cue in made for line in cue.lines for word in line.split()] == words


def test_a_cue_stands_long_enough_to_be_read_if_there_is_room() -> None:
    first, second = cues([Segment(0, 0.5, "Hello there, my friends."), Segment(20, 20.2, "你好，各位朋友们。")])
    assert first.end == pytest.approx(1_000 / 17 * 24, abs=2)
    assert second.end - second.start == pytest.approx(1_000 / 9 * 9, abs=2)


def test_a_cue_gives_way_to_the_next_with_a_gap() -> None:
    first, second = cues(
        [Segment(0, 2, "A line that takes longer to read than it does to say."), Segment(2, 4, "Next one.")]
    )
    assert (first.end, second.start) == (1_920, 2_000)


def test_cues_follow_the_times_of_words() -> None:
    spoken = [("Wait", 1.0), ("for", 1.5), ("it", 2.0), ("Now", 9.0)]
    words = tuple(Word(text, start, start + 0.5) for text, start in spoken)
    first, second = cues([Segment(1, 9.5, "Wait for it... Now!", words)])
    assert (first.lines, first.start) == (("Wait for it...",), 1_000)
    assert (second.lines, second.start) == (("Now!",), 9_000)


def test_words_that_are_not_those_of_the_text_are_no_use() -> None:
    segment = Segment(0, 4, "Well, well.", (Word("Other", 0, 4),))
    assert cues([segment]) == cues([Segment(0, 4, "Well, well.")])


def test_a_word_that_lasts_for_a_minute_stands_for_seven_seconds() -> None:
    (cue,) = cues([Segment(0, 60, "Aah", (Word("Aah", 0, 60),))])
    assert cue.end == 7_000


def test_short_neighbours_share_a_cue() -> None:
    (cue,) = cues([Segment(0, 0.4, "好。"), Segment(0.4, 0.8, "好的。"), Segment(0.9, 1.2, "谢谢。")])
    assert cue.lines == ("好。好的。谢谢。",)


def test_an_address_of_three_hundred_letters_is_shown_whole() -> None:
    address = "https://a.example/" + "abcdefghi/" * 30
    made = cues([Segment(0, 30, f"看 {address} 。")])
    check(made)
    assert text_of(made) == f"看{address}。"


def test_nothing_gives_no_cues_and_still_a_file() -> None:
    assert cues([Segment(0, 1, " \n")]) == cues([]) == ()
    assert srt([]) == "" and vtt([]) == "WEBVTT\n"


def test_files_are_written_as_their_players_want_them() -> None:
    made = (Cue(0, 1_500, ("a < b & c --> d", "two")), Cue(360_000_007, 360_001_000, ("late",)))
    assert srt(made) == (
        "1\n00:00:00,000 --> 00:00:01,500\na < b & c → d\ntwo\n\n2\n100:00:00,007 --> 100:00:01,000\nlate\n"
    )
    assert vtt(made) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt; b &amp; c --&gt; d\ntwo\n\n"
        "100:00:00.007 --> 100:00:01.000\nlate\n"
    )


TEXTS = st.lists(
    st.sampled_from([*"好的 。，.！”1😀", " ", "\n", "word", "It's", "-->", "<i>", "&amp;", "ก็"])
    | st.text(max_size=3),
    max_size=80,
).map("".join)  # fmt: skip
GAPS = st.floats(0, 20)


@st.composite
def recordings(draw: st.DrawFn) -> list[Segment]:
    """Segments in order; with words, apportioned, or neither."""
    segments: list[Segment] = []
    now = draw(st.sampled_from([0.0, 359_990.0]))
    for text in draw(st.lists(TEXTS, max_size=6)):
        start = now + draw(GAPS)
        now = start + draw(GAPS)
        kind = draw(st.sampled_from(["plain", "apportioned", "words"]))
        if kind == "apportioned":
            segments += apportioned(text, start, now)
        else:
            spoken = text.split() if kind == "words" else []
            step = (now - start) / max(len(spoken), 1)
            words = tuple(Word(word, start + n * step, start + (n + 1) * step) for n, word in enumerate(spoken))
            segments.append(Segment(start, now, text, words))
    return segments


@given(recordings())
def test_cues_of_any_recording_are_readable_in_order_and_whole(segments: list[Segment]) -> None:
    made = cues(segments)
    check(made)
    assert text_of(made) == bare("".join(segment.text for segment in segments))


@given(recordings())
def test_parsers_of_others_read_what_we_write(segments: list[Segment]) -> None:
    made = cues(segments)
    from_srt = list(other_srt.parse(srt(made)))
    assert [cue.index for cue in from_srt] == list(range(1, len(made) + 1))
    moment = datetime.timedelta(milliseconds=1)
    assert [(cue.start // moment, cue.end // moment) for cue in from_srt] == [(cue.start, cue.end) for cue in made]
    assert [cue.content for cue in from_srt] == ["\n".join(cue.lines).replace("-->", "→") for cue in made]
    from_vtt = webvtt.from_string(vtt(made), strict=True).captions if made else []
    assert [html.unescape(cue.raw_text) for cue in from_vtt] == ["\n".join(cue.lines) for cue in made]
    times = [(round(cue.start_in_seconds * 1_000), round(cue.end_in_seconds * 1_000)) for cue in from_vtt]
    assert [(a // 1_000, b // 1_000) for a, b in times] == [(cue.start // 1_000, cue.end // 1_000) for cue in made]


def test_channels_have_cues_of_their_own_that_name_them() -> None:
    segments = [
        Segment(0, 3, "Hello, how are you?", channel=1),
        Segment(1, 4, "Fine <thanks>.", channel=2),
        Segment(5, 6, "Good.", channel=1),
    ]
    made = cues(segments)
    assert [(cue.start, cue.channel) for cue in made] == [(0, 1), (1000, 2), (5000, 1)]
    assert "00:00:01,000 --> " in srt(made) and "Channel 2: Fine <thanks>." in srt(made)
    assert "<v Channel 2>Fine &lt;thanks&gt;." in vtt(made)
