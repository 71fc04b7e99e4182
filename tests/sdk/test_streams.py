"""Streams put together again: however the bytes are cut, whatever they hold."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowlight._responses import read_response
from lowlight._streams import CHARS_MAX, Events, Gathered

from tests.sdk.odd_values import ANYTHING
from tests.sdk.test_wrap import CHAT_STREAM, MESSAGE_STREAM, RESPONSE_STREAM


def as_bytes(data: list[dict[str, Any]], line_end: str = "\n") -> bytes:
    lines = "".join(f"event: x\n: a comment\ndata: {json.dumps(one)}\n\n" for one in data)
    return lines.replace("\n", line_end).encode() + b"data: [DONE]\n\n"


def gathered(parts: list[bytes]) -> Gathered:
    events, found = Events(), Gathered()
    for part in parts:
        for event in events.of(part):
            found.add(event)
    return found


@pytest.mark.parametrize("stream", [CHAT_STREAM, RESPONSE_STREAM, MESSAGE_STREAM])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@given(cuts=st.lists(st.integers(0, 4_000), max_size=30))
@settings(max_examples=30, deadline=None)
def test_bytes_may_be_cut_anywhere(stream: Any, line_end: str, cuts: list[int]) -> None:
    sent = as_bytes(stream.data, line_end)
    places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    parts = [sent[a:b] for a, b in itertools.pairwise(places)]
    found = gathered(parts)
    assert found.is_complete
    assert found.has_begun
    assert found.error is None
    assert read_response(found.response())["output"] == "On its way."


KINDS = st.sampled_from(
    [
        *("response.completed", "response.output_text.delta", "response.output_item.added"),
        *("response.output_item.done", "response.failed", "message_start", "content_block_start"),
        *("content_block_delta", "message_delta", "message_stop", "error", "thread.run.created"),
    ]
)
FIELDS = st.sampled_from(
    [
        *("choices", "response", "delta", "index", "output_index", "item", "message", "content_block"),
        *("usage", "error", "id", "model", "done", "text", "content", "tool_calls", "function", "name"),
    ]
)


@given(
    st.lists(st.dictionaries(FIELDS, ANYTHING, max_size=5) | ANYTHING, max_size=6),
    st.lists(KINDS, max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_no_json_in_a_stream_harms(sent: list[Any], kinds: list[str]) -> None:
    """A watch guards itself too; here, JSON alone must not even come to that."""
    found = Gathered()
    for i, one in enumerate(sent):
        try:
            event = json.loads(json.dumps(one, default=lambda _odd: None, skipkeys=True))
        except (ValueError, TypeError, RuntimeError):  # no JSON can be made of it
            continue
        if isinstance(event, dict) and i < len(kinds):
            event["type"] = kinds[i]
        found.add(event)
    response = found.response()
    assert response is None or read_response(response) is not None


def test_a_stream_without_an_end_is_not_kept_whole() -> None:
    found = Gathered()
    delta = {"choices": [{"index": 0, "delta": {"content": "x" * 100_000}}]}
    for _ in range(100):
        found.add(delta)
    assert len(read_response(found.response())["output"]) <= CHARS_MAX
    events = Events()
    for _ in range(100):
        assert list(events.of(b"data: " + b"x" * 100_000)) == []
    assert len(events._rest) < CHARS_MAX + 200_000
