"""The README's own lines: its Python and its curl, run as they stand there against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.sdk.provider_server import provider
from tests.sdk.test_provider_responses import CHAT, chat

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:4545"

#: What a web handler of the application does with the README's two functions.
USES = """
said = answer("Where is my parcel?", ["It left Leipzig on Monday."], "u-42", "c-7")
assert said == "On its way.", said
thumb("chatcmpl-C1", up=False)
"""


def block(language: str) -> str:
    """The README's only block of a language."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(code)


def call_like(service_url: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The one kept call that fits."""
    listed = httpx.get(f"{service_url}/v1/calls", params={"limit": 100}).json()["calls"]
    [found] = [call for call in listed if fits(call)]
    read = httpx.get(f"{service_url}/v1/calls/{found['id']}").json()
    assert isinstance(read, dict)
    return read


def test_the_python_sends_a_call_with_its_people_and_a_thumb(service_url: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(block("python") + USES)
    with provider({CHAT: (200, chat({"content": "On its way."}))}) as url:
        surroundings = {
            **os.environ,
            "LOWLIGHT_URL": service_url,
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": f"{url}/v1",
        }
        done = subprocess.run(
            [sys.executable, "app.py"],
            cwd=tmp_path,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")
    read = call_like(service_url, lambda call: call["user_id"] == "u-42")
    assert (read["call"]["prompt"], read["call"]["prompt_version"]) == ("support-answer", "v12")
    assert read["call"]["session_id"] == "c-7"
    assert read["texts"]["context"] == ["It left Leipzig on Monday."]
    assert [signal["kind"] for signal in read["signals"]] == ["thumbs_down"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_line_sends_a_call(service_url: str) -> None:
    line = block("sh").replace(ADDRESS, service_url)
    done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["accepted"] == 1, done.stdout
    read = call_like(service_url, lambda call: call["user_id"] == "u-17")
    assert (read["call"]["model"], read["call"]["latency_ms"]) == ("our-own", 812)
