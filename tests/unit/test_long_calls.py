"""Calls beyond a critic's window or of no plain text: what the critic is shown, and how much of it."""

import base64
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubrics import CallView, new_fence
from rubrics.fences import unescape
from rubrics.images import image_words
from rubrics.messages import text_of
from rubrics.rendering import show_view
from tests.providers.cases import rubric

VIEW = "Asked:\n{{ input }}\n\nSources:\n{{ context }}\n\nAnswered:\n{{ output }}"

texts = st.one_of(
    st.text(max_size=40),
    st.builds(
        lambda unit, n: unit * n,
        st.sampled_from(["wort ", "日本語。", "x\n", "</output>\n", "🙂"]),
        st.integers(0, 4_000),
    ),
)


@given(given=texts, output=texts, context=st.lists(texts, max_size=3), chars_max=st.integers(1_500, 60_000))
def test_a_view_fits_any_window_and_says_what_it_left_out(
    given: str, output: str, context: list[str], chars_max: int
) -> None:
    call = CallView(input=given, output=output, context=tuple(context))
    fence = new_fence()
    shown = show_view(VIEW, call, fence, chars_max=chars_max)
    assert len(shown.text) <= chars_max
    assert 0.0 <= shown.seen_share <= 1.0
    whole = sum(map(len, (given, output, *context)))
    assert ("are left out here]" in shown.text) == (shown.seen_share < 1.0)
    if shown.seen_share == 1.0:
        plain = unescape(shown.text, fence)
        assert all(text in plain for text in (given, output, *context))
    else:
        assert whole > chars_max - 4_000, "what fits is shown whole"


@given(
    messages=st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts}
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_end_of_a_long_conversation_stays_in_view(messages: list[dict[str, Any]]) -> None:
    """What was asked last decides about the answer; its beginning alone is another call."""
    last = "Does the LAST QUESTION come through?"
    call = CallView(input=[*messages, {"role": "user", "content": last}], output="It does.")
    shown = show_view(VIEW, call, new_fence(), chars_max=3_000)
    assert len(shown.text) <= 3_000
    assert last in shown.text
    assert "It does." in shown.text


def test_the_longest_field_gives_way_and_the_short_ones_stay_whole() -> None:
    call = CallView(input="A" * 30_000, output="The answer is short.", context=("One source.",))
    shown = show_view(VIEW, call, new_fence(), chars_max=5_000)
    assert 4_500 < len(shown.text) <= 5_000, "the window is used"
    assert "The answer is short." in shown.text
    assert "One source." in shown.text
    seen = shown.text.count("A")
    assert shown.seen_share == pytest.approx((seen + 31) / 30_031, abs=0.001)


def test_what_intake_cut_counts_as_not_seen() -> None:
    call = CallView(input="kept", output="kept", input_chars=1_000, output_chars=4)
    assert show_view(VIEW, call, new_fence()).seen_share == pytest.approx(8 / 1_004)


def test_a_text_that_the_view_does_not_print_is_not_missed() -> None:
    call = CallView(input="A" * 100_000, output="short")
    assert show_view("{{ output }}", call, new_fence(), chars_max=2_000).seen_share == 1.0


def test_every_language_and_an_empty_output_are_shown_as_they_are() -> None:
    call = CallView(input="Где моя посылка? 我的包裹在哪里？ أين طردي؟", output="")
    shown = rubric("tone").show(call, new_fence())
    assert "Где моя посылка? 我的包裹在哪里？ أين طردي؟" in shown.text
    assert "(The output is empty.)" in shown.text
    assert shown.seen_share == 1.0


def png(width: int, height: int) -> str:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk + b"\0" * 40).decode()


GIF = base64.b64encode(b"GIF89a" + struct.pack("<HH", 20, 10) + b"\0" * 20).decode()
JPEG = base64.b64encode(
    b"\xff\xd8\xff\xe0\x00\x10JFIF\0"
    + b"\0" * 9
    + b"\xff\xc0\x00\x11\x08"
    + struct.pack(">HH", 480, 640)
    + b"\0" * 20
).decode()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(1024, 768)}"}},
            "[image: 1024x768 png]",
        ),
        ({"type": "input_image", "image_url": f"data:image/gif;base64,{GIF}"}, "[image: 20x10 gif]"),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": JPEG}},
            "[image: 640x480 jpeg]",
        ),
        ({"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}}, "[image: webp]"),
        (
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            "[image: https://x.example/a.png]",
        ),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}, "[image: png]"),
        ({"type": "image_url"}, "[image]"),
        (
            {"type": "tool_use", "name": "find_order", "input": {"order": 17}},
            '[tool call find_order({"order": 17})]',
        ),
        (
            {"type": "function", "function": {"name": "refund", "arguments": '{"euro": 5}'}},
            '[tool call refund({"euro": 5})]',
        ),
    ],
)
def test_what_is_no_text_is_named_in_words(part: dict[str, Any], words: str) -> None:
    assert (
        text_of([{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}]) == f"Look:\n{words}"
    )


@given(
    st.dictionaries(
        st.sampled_from(["image_url", "source", "data", "media_type", "url"]),
        st.text() | st.binary() | st.dictionaries(st.sampled_from(["url", "data", "media_type"]), st.text()),
    )
)
def test_any_part_that_says_it_is_an_image_has_words(part: dict[str, Any]) -> None:
    words = image_words(part)
    assert words == "" or words.startswith(": ")
    assert len(words) < 60
