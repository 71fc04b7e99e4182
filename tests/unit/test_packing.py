"""Packed texts: read back whole, searched as they were written, and plain again for an older version."""

import sqlite3
import zlib
from contextlib import closing

from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from api import schema
from critic.working.refit import own_outputs
from dashboards.queries.calls import _with_words
from ingest.intake import Intake
from ingest.packed_text import plain
from ingest.packing import PACKED_CHARS_MIN, packed, unpacked
from ingest.settings import Settings
from ingest.store import OpenStore, writing_engine
from ingest.tables import DEFAULT_PROJECT, CallText, columns
from ingest.wire import calls_of

TEXT = columns(CallText)
LONG = "The refund for Zürich 配送 was sent. " * 200
NOISE = "".join(chr(0x4E00 + i * 7919 % 20_000) for i in range(PACKED_CHARS_MIN))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 300))
def test_what_is_packed_comes_back(text: str, times: int) -> None:
    kept = packed(text * times)
    assert unpacked(kept) == text * times
    assert isinstance(kept, str) or len(kept) < len((text * times).encode())


def test_short_texts_and_those_that_do_not_shrink_stay_as_they_are() -> None:
    assert packed("x" * (PACKED_CHARS_MIN - 1)) == "x" * (PACKED_CHARS_MIN - 1)
    assert packed(NOISE) == NOISE
    assert isinstance(packed(LONG), bytes)
    assert unpacked(None) is None


def test_any_zlib_reads_what_was_packed() -> None:
    blob = packed(LONG)
    assert isinstance(blob, bytes)
    assert zlib.decompress(blob).decode() == LONG


def test_queries_never_see_that_a_text_is_packed(store: OpenStore, settings: Settings) -> None:
    sent = [
        {"id": "long", "input": LONG, "output": LONG + "needle 100%_done"},
        {"id": "short", "input": "a question", "output": "needle"},
        {"id": "messages", "input": [{"role": "user", "content": LONG + "needle"}]},
        {"id": "none"},
    ]
    Intake(store, settings).accept_calls(DEFAULT_PROJECT, calls_of(sent))
    with store.read() as connection:
        kept = connection.execute(select(TEXT).order_by(TEXT.c.call_seq)).all()
        assert [row.input for row in kept[:2]] == [LONG, "a question"]
        assert kept[0].output == LONG + "needle 100%_done"
        assert (kept[2].input_json, kept[2].input.count("refund")) == (True, 200)
        kinds = connection.exec_driver_sql("select typeof(input), typeof(output) from call_text").all()
        assert [tuple(kind) for kind in kinds] == [("blob", "blob"), ("text", "text"), ("blob", "null")]
        beginnings = select(func.substr(plain(TEXT.c.input), 1, 10)).order_by(TEXT.c.call_seq)
        assert connection.execute(beginnings).scalars().all() == [LONG[:10], "a question", '[{"role":"']
        # LIKE, whatever its own signs: % is said as %, _ as _
        assert _with_words(connection, [1, 2, 3, 4], "NEEDLE") == {1, 2, 3}
        assert _with_words(connection, [1, 2, 3, 4], "100%_d") == {1}
        assert {text.output for text in own_outputs(connection, 10)} >= {"needle"}
        assert any(text.output.startswith(LONG[:100]) for text in own_outputs(connection, 10))


def test_an_older_version_gets_plain_texts(store: OpenStore, settings: Settings) -> None:
    Intake(store, settings).accept_calls(
        DEFAULT_PROJECT, calls_of([{"id": "a", "input": LONG, "output": "x"}])
    )
    store.close()
    path = settings.database_url.removeprefix("sqlite:///")
    with writing_engine(settings.database_url).connect() as connection, connection.begin():
        command.downgrade(schema._config(connection), "0001")
    with closing(sqlite3.connect(path)) as plainly:
        assert plainly.execute("select input, output from call_text").fetchall() == [(LONG, "x")]
