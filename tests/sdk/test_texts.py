"""What leaves the process: redacted, measured instead of sent, sampled by whole sessions."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import lowlight
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowlight._sampling import is_kept

from ingest.wire import parse_calls
from tests.sdk.conftest import RunProgram
from tests.sdk.fake_server import FakeServer, running
from tests.sdk.test_provider_responses import FUNCTION, chat

SECRET = "mia@example.com"


def redact(text: str) -> str:
    return text.replace(SECRET, "(mail)")


def sent(server: FakeServer, **settings: Any) -> dict[str, Any]:
    """What arrives of one call that holds the secret in every place a text can have."""
    with lowlight.Client(server.url, linger_s=0.01, **settings) as client:
        asked = [
            {"role": "user", "content": f"I am {SECRET}"},
            {"role": "user", "content": [{"type": "text", "text": SECRET}, {"type": "text", "text": "x"}]},
            {"role": "tool", "tool_call_id": "c1", "content": SECRET, "more": {"deep": [SECRET, 7]}},
        ]
        called = {**FUNCTION, "function": {"name": "find", "arguments": json.dumps({"of": SECRET})}}
        call_id = client.record(
            chat({"content": f"Hello {SECRET}", "tool_calls": [called]}),
            input=asked,
            context=[SECRET, {"page_content": SECRET}],
            error=ValueError(f"no {SECRET}"),
            user_id="u-1",
            tags={"tenant": "acme"},
        )
        signal_id = client.signal("thumbs_down", call_id=call_id, comment=f"I said {SECRET}")
        assert client.flush(20)
    call = server.calls[call_id]
    assert (call["user_id"], call["tags"], call["model"]) == (
        "u-1",
        {"tenant": "acme"},
        "gpt-6-mini-2026-08-01",
    )
    return {**call, "comment": server.signals[signal_id].get("comment")}


def test_every_text_is_redacted_before_it_leaves(server: FakeServer) -> None:
    call = sent(server, redact=redact)
    assert SECRET not in json.dumps(call)
    assert call["input"][0] == {"role": "user", "content": "I am (mail)"}
    assert call["input"][2]["more"] == {"deep": ["(mail)", 7]}
    assert call["output"][0]["content"] == "Hello (mail)"
    assert call["output"][0]["tool_calls"][0]["arguments"] == '{"of": "(mail)"}'
    assert call["context"] == ["(mail)", "(mail)"]
    assert call["error"] == {"type": "ValueError", "message": "no (mail)"}
    assert call["comment"] == "I said (mail)"


def broken(text: str) -> str:
    raise RuntimeError(f"cannot redact {text}")


@pytest.mark.parametrize(
    "failing", [broken, lambda text: None, lambda text: b"x", lambda text: sys.exit(1), "no function", 7]
)
def test_a_text_that_cannot_be_redacted_is_withheld(
    server: FakeServer, caplog: pytest.LogCaptureFixture, failing: Any
) -> None:
    call = sent(server, redact=failing)
    assert SECRET not in json.dumps(call)
    assert not {"input", "output", "context", "input_sha256"} & set(call)
    assert (call["comment"], call["error"]) == (None, {"type": "ValueError"})
    assert call["input_chars"] == len(f"I am {SECRET}") + len(SECRET) + 1 + len(SECRET)
    assert "input was withheld" in caplog.text
    assert SECRET not in caplog.text


def test_without_content_sizes_and_hashes_are_sent(server: FakeServer) -> None:
    call = sent(server, capture_content=False)
    assert SECRET not in json.dumps(call)
    assert not {"input", "output", "context"} & set(call)
    assert (call["comment"], call["error"]) == (None, {"type": "ValueError"})
    assert call["input_chars"] == 15 + 5 + 15 + 1 + 15
    assert len(call["input_sha256"]) == len(call["output_sha256"]) == 64
    kept = {name: value for name, value in call.items() if name != "comment"}
    assert parse_calls(json.dumps({"calls": [kept]}).encode()).rejected == []
    with lowlight.Client(server.url, capture_content=False) as client:
        call_id = client.record("4", input="2+2?")
        assert client.flush(20)
    assert server.calls[call_id]["input_sha256"] == hashlib.sha256(b"2+2?").hexdigest()
    assert (server.calls[call_id]["input_chars"], server.calls[call_id]["output_chars"]) == (4, 1)


def test_only_the_redacted_text_reaches_the_spool(tmp_path: Path) -> None:
    with running() as gone:
        url = gone.url
    client = lowlight.Client(url, linger_s=0.0, redact=redact, spool=tmp_path)
    client.record("4", input=f"I am {SECRET}")
    client.shutdown(1)
    [kept] = [path.read_bytes() for path in tmp_path.iterdir() if path.name.endswith(".calls")]
    assert b"I am (mail)" in kept


def test_whole_sessions_are_kept_and_their_rate_travels(server: FakeServer) -> None:
    with lowlight.Client(server.url, linger_s=0.01, sample=0.25) as client:
        for n in range(400):
            for turn in range(3):
                client.record(str(turn), session_id=f"s-{n}")
        assert client.flush(20)
        stats = client.stats()
    turns: dict[str, list[str]] = {}
    for call in server.calls.values():
        turns.setdefault(call["session_id"], []).append(call["output"])
        assert call["sample_rate"] == 0.25
    assert all(found == ["0", "1", "2"] for found in turns.values())
    assert 60 < len(turns) < 140
    assert stats["recorded"] + stats["sampled_out"] == 1_200
    assert stats["dropped"] == {}


def test_what_a_call_is_sampled_by(server: FakeServer) -> None:
    """Its session, else its trace, else itself; what the application sampled before is multiplied in."""
    with lowlight.Client(server.url, linger_s=0.01, sample=0.5) as client:
        for n in range(60):
            session_id = f"s-{n}"
            kept = is_kept(session_id, 0.5)
            client.record("session", session_id=session_id, id=f"a-{n}")
            client.record("trace", trace_id=session_id, id=f"b-{n}", sample_rate=0.1)
            client.record("both", session_id=session_id, trace_id="t", id=f"c-{n}")
            with client.context(session_id=session_id):
                client.record("context", id=f"d-{n}")
            assert client.flush(20)
            assert {f"{letter}-{n}" in server.calls for letter in "abcd"} == {kept}
            if kept:
                assert server.calls[f"b-{n}"]["sample_rate"] == pytest.approx(0.05)
        own = [client.record("itself") for _ in range(60)]
        assert client.flush(20)
        assert [one in server.calls for one in own] == [is_kept(one, 0.5) for one in own]


@pytest.mark.parametrize("nothing", ["", b"", float("nan")])
def test_calls_of_an_empty_session_are_no_session(outbox: lowlight.Client, nothing: Any) -> None:
    """Applications that say "" for a visitor without one would send all of those calls, or none."""
    outbox.init("http://127.0.0.1:1", sample=0.5)
    ids = [outbox.record(session_id=nothing, trace_id=nothing) for _ in range(60)]
    assert outbox.stats()["queued"] == sum(is_kept(one, 0.5) for one in ids)
    assert 0 < outbox.stats()["queued"] < 60


def test_a_failed_call_is_always_kept_and_stands_for_itself(server: FakeServer) -> None:
    answer = {"id": "resp_1", "output": [], "status": "failed", "error": {"code": "server_error"}}
    with lowlight.Client(server.url, linger_s=0.01, sample=0.0) as client:
        client.record("4")
        failed = client.record(error=ValueError("x"), session_id="s")
        sampled = client.record(error=ValueError("x"), sample_rate=0.5)
        says_so = client.record(answer, session_id="s")
        client.signal("thumbs_down", session_id="s")
        assert client.flush(20)
    assert list(server.calls) == [failed, sampled, says_so]
    assert "sample_rate" not in server.calls[failed]  # 1, as the server reads it
    assert "sample_rate" not in server.calls[says_so]
    assert server.calls[sampled]["sample_rate"] == 0.5
    assert len(server.signals) == 1


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_higher_rate_keeps_what_a_lower_one_keeps(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert is_kept(unit, high) or not is_kept(unit, low)
    assert is_kept(unit, 1.0)
    assert not is_kept(unit, 0.0)


def test_the_rate_of_the_environment(server: FakeServer, run_program: RunProgram) -> None:
    source = "import lowlight\nfor i in range(50): lowlight.record('4', session_id=str(i))"
    done = run_program(source, LOWLIGHT_URL=server.url, LOWLIGHT_SAMPLE="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert server.calls == {}


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("SAMPLE", "", ""),
        ("SAMPLE", "10%", "LOWLIGHT_SAMPLE='10%' is no number of 0 to 1; 1 is taken"),
        ("SAMPLE", "10", "LOWLIGHT_SAMPLE='10' is no number of 0 to 1; 1 is taken"),
        ("SAMPLE", "nan", "LOWLIGHT_SAMPLE='nan' is no number of 0 to 1; 1 is taken"),
        ("ENABLED", "maybe", "LOWLIGHT_ENABLED='maybe' is neither true nor false; true is taken"),
        ("ENABLED", " Yes ", ""),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    text: str,
    message: str,
) -> None:
    monkeypatch.setenv(f"LOWLIGHT_{variable}", text)
    with lowlight.Client(server.url) as client:
        call_id = client.record("4")
        assert client.flush(20)
    assert list(server.calls) == [call_id]
    assert [record.message for record in caplog.records] == ([message] if message else [])
