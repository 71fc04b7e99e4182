"""Each way of sending that docs/opentelemetry.md shows, run as it stands there, with the real packages.

Only the addresses are replaced: the server's by the test's, the provider's by a loopback one. The line that
installs is left to `make clients`.
"""

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingest.settings import Settings
from tests.clients.install import ROOT, environment_of, is_made
from tests.otlp_captures import kept_calls
from tests.sdk.provider_server import provider
from tests.sdk.test_provider_responses import CHAT, chat

PAGE = ROOT / "docs" / "opentelemetry.md"
ADDRESS = "http://127.0.0.1:4545"
QUESTION, ANSWER = "Where is my parcel?", "It arrives tomorrow."
WAIT_S = 120.0

#: What an application does once the page's lines are in it.
ASKS_OPENAI = f"""
import openai

openai.OpenAI().chat.completions.create(
    model="gpt-6-mini", messages=[{{"role": "user", "content": "{QUESTION}"}}]
)
"""


@dataclass(frozen=True)
class Lines:
    """One section of the page.

    Attributes:
        heading: the section's.
        after: what an application does after the section's code.
        expected: fields that its call must have, beside texts, model and tokens.
    """

    heading: str
    after: str = ASKS_OPENAI
    expected: dict[str, Any] = field(default_factory=dict)


CLIENTS = {
    "genai": Lines("OpenTelemetry's own GenAI instrumentations"),
    "openinference": Lines("OpenInference (Phoenix, Arize)"),
    "langchain": Lines("LangChain", "", {"session_id": "sess-7f3a", "user_id": "user-42"}),
    "litellm": Lines("LiteLLM", "", {"user_id": "user-42"}),
    "logfire": Lines("Logfire", ASKS_OPENAI),
    "traceloop": Lines(
        "Traceloop (OpenLLMetry)", ASKS_OPENAI, {"session_id": "sess-7f3a", "user_id": "user-42"}
    ),
    "langfuse": Lines("Langfuse's SDK", "", {"session_id": "sess-7f3a", "user_id": "user-42"}),
    "langfuse3": Lines("Langfuse's SDK", "", {"session_id": "sess-7f3a", "user_id": "user-42"}),
}


@pytest.fixture
def openai_url() -> Iterator[str]:
    """A provider that answers every chat completion."""
    # An id of its own, as real ones have: two tellers of one response are one call.
    answer = {**chat({"content": ANSWER}), "id": f"chatcmpl-{uuid.uuid4().hex}"}
    with provider({CHAT: (200, answer)}) as url:
        yield f"{url}/v1"


def blocks(heading: str | None) -> list[tuple[str, str]]:
    """Return (language, code) of each block of a section; of what stands before the first for None."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = parts[0] if heading is None else parts[parts.index(heading) + 1]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", CLIENTS)
def test_the_lines_of_the_page_send_the_call(
    name: str, service_url: str, service_settings: Settings, openai_url: str, tmp_path: Path
) -> None:
    if not is_made(name):
        pytest.skip(f"the environment of {name} is not there: make clients")
    lines = CLIENTS[name]
    before = set(kept_calls(_file(service_settings)))
    script, program = _as_scripts(blocks(None) + blocks(lines.heading), lines.after)
    (tmp_path / "app.py").write_text(program.replace(ADDRESS, service_url))
    done = subprocess.run(
        ["bash", "-euc", script.replace(ADDRESS, service_url)],
        cwd=tmp_path,
        env=_surroundings(name, openai_url, service_url),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    call = _the_call(service_settings, before)
    assert call["model"].startswith("gpt-6-mini")
    assert QUESTION in json.dumps(call["input"])
    assert ANSWER in json.dumps(call["output"])
    assert (call["input_tokens"], call["output_tokens"]) == (1200, 80)
    assert call["latency_ms"] > 0
    assert {field: call.get(field) for field in lines.expected} == lines.expected


def test_every_section_with_code_is_run() -> None:
    """A new client on the page needs its environment here."""
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    with_code = {heading for heading in headings if blocks(heading)}
    a_fragment = {"Who it was: session and user"}
    assert with_code - a_fragment == {lines.heading for lines in CLIENTS.values()}


def _as_scripts(found: list[tuple[str, str]], after: str) -> tuple[str, str]:
    """Return what a shell runs and what its `app.py` holds."""
    shell = "\n".join(code for language, code in found if language == "sh")
    program = "\n".join(code for language, code in found if language == "python") + after
    shell = re.sub(r"^pip install .*$", "", shell, flags=re.MULTILINE)
    return (shell if "app.py" in shell else f"{shell}\npython app.py"), program


def _surroundings(name: str, openai_url: str, service_url: str) -> dict[str, str]:
    return {
        "PATH": f"{environment_of(name) / 'bin'}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "OPENAI_API_KEY": "sk-loopback",
        "OPENAI_BASE_URL": openai_url,
        "OPENAI_API_BASE": openai_url,
        "NO_PROXY": "127.0.0.1",
        "SERVICE_URL": service_url,
    }


def _file(settings: Settings) -> Path:
    return Path(settings.database_url.removeprefix("sqlite:///"))


def _the_call(settings: Settings, before: set[str]) -> dict[str, Any]:
    """Return the one call that came; an exporter sends within seconds, a call closes after its quiet time."""
    deadline = time.monotonic() + WAIT_S
    while True:
        new = {key: call for key, call in kept_calls(_file(settings)).items() if key not in before}
        if new or time.monotonic() > deadline:
            assert len(new) == 1, f"{len(new)} calls came instead of one: {new}"
            return next(iter(new.values()))
        time.sleep(0.1)
