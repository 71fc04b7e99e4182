"""docs/sdk.md and the SDK's README: their examples run, in order, against a provider and a server."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import lowlight
import openai
import pytest

from tests.sdk.conftest import RunProgram
from tests.sdk.fake_server import FakeServer
from tests.sdk.provider_server import provider
from tests.sdk.test_provider_responses import ANTHROPIC, CHAT, MESSAGES, chat, message

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "sdk.md"
README = Path(lowlight.__file__).parents[1] / "README.md"


def examples(page: Path) -> str:
    """All Python of a page, each block on the lines where it stands there."""
    source = []
    inside = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            source.append("")
        else:
            source.append(line if inside else "")
    return "\n".join(source)


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_the_examples_run(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, page: Path
) -> None:
    answers = {
        CHAT: (200, chat({"content": "On its way."})),
        ANTHROPIC: (200, message([{"type": "text", "text": "On its way."}], "end_turn")),
    }
    client = lowlight.Client(linger_s=0.01)
    for name in lowlight.__all__:
        if hasattr(client, name):
            monkeypatch.setattr(lowlight, name, getattr(client, name))
    monkeypatch.setenv("LOWLIGHT_URL", server.url)
    with provider(answers) as url, client:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        names: dict[str, Any] = {
            "messages": MESSAGES,
            "our_model": lambda asked: "On its way.",
            "response": SimpleNamespace(id="chatcmpl-C1"),
            "openai_client": openai.OpenAI(),
            "anthropic_client": anthropic.Anthropic(api_key="k", base_url=url),
            "system": "You answer questions about parcels.",
            "retrieved": [SimpleNamespace(text="The parcel left Leipzig.")],
            "user": SimpleNamespace(id="u-17"),
            "conversation": SimpleNamespace(id="c-204"),
        }
        exec(compile(examples(page), str(page), "exec"), names)
        if "answer" in names:
            assert names["answer"]("Where?") == "On its way."
        assert client.flush(20)
        assert client.stats()["errors"] == 0
    assert caplog.text == ""
    outputs = [call.get("output") for call in server.calls.values()]
    failed = [call for call in server.calls.values() if "error" in call]
    assert outputs.count("On its way.") == (4 if page is PAGE else 2)
    assert (len(failed), len(server.signals)) == ((1, 5) if page is PAGE else (0, 1))
    if page is PAGE:
        first = next(iter(server.calls.values()))
        assert (first["session_id"], first["tags"]) == ("c-204", {"tenant": "acme"})
        assert first["context"] == ["The parcel left Leipzig on Monday."]


def test_the_page_lists_every_setting_and_variable() -> None:
    rows = re.findall(r"^\| (?:`(LOWLIGHT_\w+)`)? ?\| `(\w+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    settings = set(inspect.signature(lowlight.init).parameters) - {"timeout_s", "spool_bytes_max"}
    assert {setting for _variable, setting in rows} == settings
    sources = Path(lowlight.__file__).parent.glob("*.py")
    read = {name for path in sources for name in re.findall(r"LOWLIGHT_[A-Z]+", path.read_text())}
    assert {variable for variable, _setting in rows if variable} == read


def test_the_page_names_everything_that_is_public() -> None:
    page = PAGE.read_text()
    for name in set(lowlight.__all__) - {"Client", "OpenCall", "__version__"}:
        assert f"lowlight.{name}" in page, name


def test_the_readmes_promises_hold_in_a_program_without_a_server(run_program: RunProgram) -> None:
    """It starts, answers and ends as it would without the SDK."""
    done = run_program(
        "import lowlight\n"
        "@lowlight.observe\n"
        "def answer(question): return question.upper()\n"
        "print(answer('why?'))",
        LOWLIGHT_URL="http://127.0.0.1:1",
    )
    assert (done.returncode, done.stdout) == (0, "WHY?\n")
