"""Mapping files: what a row becomes, and which key is to blame where a file cannot be used."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.files.mapping import FOLDER, BadMapping, BadRow, Mapping, load_mapping
from ingest.wire import calls_of

DIALOGUE = """
each = "turns"
[turns]
role = "who"
text = "says"
outputs = ["bot"]
roles = { human = "user" }
[call]
session_id = "id"
model = "bot_name"
[[signal]]
kind = { path = "turn.thumb", map = { 1 = "thumbs_up", 0 = "thumbs_down" } }
[[signal]]
about = "session"
kind = { value = "rating" }
value = "stars"
"""


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    def load(text: str) -> Mapping:
        path = tmp_path / "m.toml"
        path.write_text(text)
        return load_mapping(path)

    return load


def test_a_dialogue_becomes_one_call_an_answer(mapped: Any) -> None:
    row = {
        "id": "s1",
        "bot_name": "b",
        "stars": 2,
        "turns": [
            {"who": "human", "says": "hi", "thumb": None},
            {"who": "bot", "says": "hello", "thumb": 1},
            {"who": "human", "says": "and?"},
            {"who": "bot", "says": "what?", "thumb": 0},
        ],
    }
    first, second = mapped(DIALOGUE).items(row)
    assert first.call["input"] == [{"role": "user", "content": "hi"}]
    assert (first.call["output"], first.call["session_id"]) == ("hello", "s1")
    assert [turn["role"] for turn in second.call["input"]] == ["user", "assistant", "user"]
    assert [signal["kind"] for signal in first.signals + second.signals] == ["thumbs_up", "thumbs_down"]
    assert (first.session_signals, second.session_signals) == ([], [{"kind": "rating", "value": 2}])


def test_a_dialogue_without_an_answer_is_no_call_and_an_unrated_one_no_rating(mapped: Any) -> None:
    mapping = mapped(DIALOGUE)
    assert mapping.items({"id": "s", "turns": [{"who": "human", "says": "hi"}], "stars": 1}) == []
    (item,) = mapping.items({"id": "s", "turns": [{"who": "bot", "says": "hi"}], "stars": None})
    assert (item.signals, item.session_signals) == ([], [])


def test_units_tables_constants_and_places_in_lists(mapped: Any) -> None:
    mapping = mapped(
        """
        [call]
        latency_ms = { path = "took", unit = "s" }
        cost_usd = { path = "price", unit = "cents" }
        output = "choices.0.message.content"
        prompt.name = { value = "faq" }
        error.type = { path = "code", map = { 429 = "rate_limit", -100 = "" }, otherwise = "other" }
        tags.beta = "flags.beta"
        """
    )
    row = {
        "took": 1.5,
        "price": 3,
        "choices": [{"message": {"content": "x"}}],
        "code": 429,
        "flags": {"beta": True},
    }
    (item,) = mapping.items(row)
    assert item.call == {
        "latency_ms": 1500.0,
        "cost_usd": 0.03,
        "output": "x",
        "prompt": {"name": "faq"},
        "error": {"type": "rate_limit"},
        "tags": {"beta": "true"},
    }
    assert mapping.items({"code": 500})[0].call["error"] == {"type": "other"}
    # '' in a table, and a place that leads nowhere, are both: unknown.
    assert mapping.items({"code": -100, "choices": []})[0].call == {"prompt": {"name": "faq"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[call", "no TOML"),
        ("", "[call] is missing"),
        ("[call]\nlatancy_ms = 'x'", "did you mean latency_ms"),
        ("[call]\nprompt = 'x'", "prompt is a group"),
        ("[call]\nprompt.nam = 'x'", "did you mean name"),
        ("[call]\nmodel = 3", "[call] model = 3"),
        ("[call]\nmodel = { path = 'a', value = 'b' }", "either path"),
        ("[call]\nmodel = { }", "either path"),
        ("[call]\nmodel = { value = 'b', unit = 's' }", "a constant takes no"),
        ("[call]\nmodel = { path = 'a..b' }", "'a..b' is no place"),
        (
            "[call]\nlatency_ms = { path = 'a', unit = 'hours' }",
            "'hours' is not known here; take one of ms, s",
        ),
        ("[call]\nmodel = { path = 'a', unit = 's' }", "only fields that end in _ms or _usd"),
        ("[call]\nmodel = { path = 'a', map = 'b' }", "map is a table"),
        ("[call]\nmodel = { path = 'a', otherwise = 'b' }", "otherwise only makes sense beside map"),
        ("each = 'turns'\n[call]\nmodel = 'm'", "belong together"),
        ("each = 'turns'\n[turns]\noutputs = []\n[call]", "[turns] outputs lists"),
        ("[call]\nmodel = 'm'\n[signal]\nkind = 'x'", "two brackets"),
        ("[call]\nmodel = 'm'\n[[signal]]\nvalue = 'x'", "number 1: kind is missing"),
        ("[call]\nmodel = 'm'\n[[signal]]\nabout = 'session'\nkind = 'x'", "needs [call] session_id"),
        ("[call]\nmodel = 'm'\n[[signal]]\nabout = 'user'\nkind = 'x'", "not 'user'"),
        ("[call]\nmodel = 'm'\n[calls]", "calls is not known; did you mean call?"),
    ],
)
def test_a_file_that_cannot_be_used_names_its_key(mapped: Any, text: str, words: str) -> None:
    with pytest.raises(BadMapping) as caught:
        mapped(text)
    assert words in str(caught.value)
    assert "m.toml" in str(caught.value)


def test_a_missing_file_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(BadMapping, match="calls, convai2, llmperf"):
        load_mapping(tmp_path / "none.toml")


def test_a_number_with_a_unit_must_be_one(mapped: Any) -> None:
    mapping = mapped("[call]\nlatency_ms = { path = 'took', unit = 's' }")
    with pytest.raises(BadRow, match='took is "soon", not a number'):
        mapping.items({"took": "soon"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["turns", "role", "text", "thumb", "start", "0", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(row=json_values, name=st.sampled_from(sorted(path.stem for path in FOLDER.glob("*.toml"))))
def test_no_row_breaks_a_shipped_mapping(row: Any, name: str) -> None:
    """Whatever a line holds, it becomes items or a reason; nothing else is raised."""
    mapping = load_mapping(Path(name))
    try:
        items = mapping.items(row)
    except BadRow:
        return
    sent = calls_of([item.call for item in items])
    assert len(sent.items) + len(sent.rejected) == len(items)
    assert not sent.unknown_fields
