"""The demo as a stranger starts it: the real command, server, SDK, critic and outliers, one run for all."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.background import background
from api.doors import ask
from ingest.settings import Settings

#: As many as a person sees: fewer would leave the troubles too small to stand apart.
CALLS = 2_000


def demo(folder: Path, *more: str, calls: int = CALLS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api.cli", "demo", "--once", "--port", "0", "--folder", str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOWLIGHT_")}
    return subprocess.run(
        [*command, "--calls", str(calls), *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def counts(folder: Path) -> dict[str, int]:
    (database,) = folder.glob("*.db")
    connection = sqlite3.connect(database)
    try:
        return {
            table: connection.execute(f"select count(*) from {table}").fetchone()[0]
            for table in ("call", "signal", "score", "guard_reading", "experience", "todo")
        }
    finally:
        connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder: Path) -> subprocess.CompletedProcess[str]:
    return demo(folder)


@pytest.fixture(scope="module")
def report(first: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    assert first.returncode == 0, first.stderr
    (database,) = folder.glob("*.db")
    read = subprocess.run(
        [sys.executable, "-m", "api.cli", "report", "--json", "--database-url", f"sqlite:///{database}"],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(read.stdout)
    return found


def test_it_prints_what_it_found(first: subprocess.CompletedProcess[str], report: dict[str, Any]) -> None:
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    assert report["case"]["sentence"] in first.stdout
    for user in report["worst_users"]:
        assert user["user_id"] in first.stdout
    assert "No model read these texts" in first.stdout
    assert "http://127.0.0.1:" in first.stdout
    assert "lowlight.record(" in first.stdout
    assert "The server ends now" in first.stdout.splitlines()[-1]


def test_every_call_is_read_and_ranked(report: dict[str, Any], folder: Path) -> None:
    n = counts(folder)
    assert n["call"] == n["experience"] == n["guard_reading"] > 0.95 * CALLS
    assert n["todo"] == 0
    assert report["progress"]["settled"]
    assert report["critic"]["by_status"]["scored"] > 0
    assert report["critic"]["by_status"]["ungraded"] > 0


def _is_trouble(finding: dict[str, Any]) -> str | None:
    """Return which planted trouble a finding is about; None where it is another."""
    field, value = finding["condition"]["field"], str(finding["condition"]["value"])
    if field == "input_tokens" and 8_000 < float(value) < 14_000:
        return "long document"
    if value.startswith("support-answer@v12") or field == "input_language":
        return "wrong language" if finding["what_failed"] == "wrong_language" else None
    if value.startswith("welcome-chat") or field in ("user_age_days", "calls_before"):
        return "rude" if finding["what_failed"] == "rude" else None
    return None


def test_the_case_is_one_of_the_three_troubles_and_all_are_found(report: dict[str, Any]) -> None:
    findings = [*report["findings"]["bad"], *report["findings"]["tail"]]
    named = {_is_trouble(one) for one in findings} - {None}
    assert named == {"long document", "wrong language", "rude"}, [one["case_sentence"] for one in findings]
    # A long document is both bad and slow: its condition may stand in both lists.
    case = next(one for one in findings if one["condition"] == report["case"]["condition"])
    assert _is_trouble(case), report["case"]["sentence"]


def test_a_case_of_weeks_before_is_fixed_and_proven(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    """A newcomer sees the whole loop, up to the number that says that the fix worked."""
    (proven,) = re.findall(r"A fix, proven: +\S+/cases/(\S+)\n +(.+)", first.stdout)
    (database,) = folder.glob("*.db")
    with sqlite3.connect(database) as connection:
        kept = connection.execute(
            "select week, status, owner, root_cause is not null from week_case"
        ).fetchall()
    assert (proven[0], "verified", "Jonas", 1) in kept
    assert re.match(r"Fixed: \d+ % bad before, \d+ % in the \d+ calls of \d+ people since", proven[1])


def test_run_again_it_doubles_nothing(first: subprocess.CompletedProcess[str], folder: Path) -> None:
    before = counts(folder)
    again = demo(folder)
    assert again.returncode == 0, again.stderr
    assert "were here already" in again.stdout
    assert counts(folder) == before


def test_it_stays_up_until_ctrl_c_and_ends_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "demo", "--port", "0", "--folder", str(tmp_path), "--calls", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            if line.startswith("Look at it:"):
                address = line.split()[-1]
            if line.startswith("Ctrl-C"):
                break
        assert ask(f"{address}/healthz") == {"status": "ok"}
        second = demo(tmp_path, calls=60)
        assert second.returncode == 1
        (line,) = second.stderr.strip().splitlines()
        assert address in line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Stopped." in out
    assert "Traceback" not in err


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("Traceback of another day\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = demo(tmp_path, "--port", port, calls=60)
    assert done.returncode == 1
    assert f"Port {port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_import_and_report_go_through_the_running_server(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text('{"model": "m", "output": "4", "latency_ms": 10, "thumb": "up"}\n')
    url = ["--database-url", settings.database_url]
    lowlight = [sys.executable, "-m", "api.cli"]
    with background(settings) as address:
        done = subprocess.run(
            [*lowlight, "import", str(file), "--mapping", "calls", "--shift-to", "last", *url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"The critic of {address}" in done.stdout
        read = subprocess.run([*lowlight, "report", *url], capture_output=True, text=True, check=True)
        assert "1 call, 0 failed" in read.stdout
        assert "No group of calls stands apart" in read.stdout
        unknown = subprocess.run(
            [*lowlight, "report", "--week", "soon", *url], capture_output=True, text=True, check=False
        )
    assert unknown.returncode == 1
    assert "is no ISO week" in unknown.stderr


def test_report_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "report", "--database-url", f"sqlite:///{tmp_path}/none.db"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "lowlight demo" in done.stderr
    assert not (tmp_path / "none.db").exists()
