"""Importing files: each line once, bad ones told, times moved only on demand."""

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select

from api.cli import main
from api.doors import StoreDoor
from api.files.importing import BATCH_BYTES, BATCH_CALLS, Told, import_lines
from api.files.lines import opened
from api.files.mapping import load_mapping
from ingest.settings import Settings
from ingest.store import OpenStore, read_counted
from ingest.tables import DEFAULT_PROJECT, Call, Signal, Slice, columns
from ingest.wire import Receipt
from outliers.latency.tails import slowest, tails
from outliers.weeks import week_by_id

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEEK = week_by_id("2026-W46", ZoneInfo("UTC"))

call, signal, slice_ = columns(Call), columns(Signal), columns(Slice)


def shared(name: str) -> Path:
    path = DATA / name
    if not path.exists() and not os.environ.get("LOWLIGHT_REQUIRE_DATA"):
        pytest.skip(f"{path} is not here")
    return path


def lines_of(path: Path, n: int | None = None) -> Iterator[bytes]:
    with opened(str(path)) as lines:
        yield from islice(lines, n)


def run(file: Path | str, mapping: Path | str, settings: Settings, *more: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(
        main,
        ["import", str(file), "--mapping", str(mapping), "--database-url", settings.database_url, *more],
        input=stdin,
    )


def counted(store: OpenStore, table: Any) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows: list[Any] = [
        {"model": "m", "input": "2+2?", "output": "4", "latency_ms": 812.5, "thumb": "up"},
        {"model": "m", "input": "2+2?", "output": "4", "latency_ms": 812.5, "thumb": "up"},
        {"model": "m", "output": "5", "started_at": "2018-10-31T10:40:09", "thumb": "down"},
        {"model": "m", "latency_ms": -3},
    ]
    path = tmp_path / "calls.jsonl"
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n[1]\nnot json\n"
    path.write_text(text)
    return path


def test_bad_lines_are_told_by_number_and_the_rest_kept(file: Path, settings: Settings) -> None:
    done = run(file, "calls", settings)
    assert done.exit_code == 0, done.output
    assert "6 lines: 3 calls and 3 signals kept." in done.stdout
    assert "line 4: latency_ms must be at least 0" in done.stderr
    assert "line 6: the line is JSON but no object" in done.stderr
    assert "line 7: no JSON" in done.stderr


def test_importing_twice_doubles_nothing_and_a_longer_file_adds_its_new_lines(
    file: Path, settings: Settings
) -> None:
    run(file, "calls", settings)
    again = run(file, "calls", settings)
    assert "0 calls and 0 signals kept, 3 calls were here already" in again.stdout
    with file.open("a") as more:
        more.write('{"model": "m", "output": "new"}\n')
    longer = run(file, "calls", settings)
    assert "1 calls and 0 signals kept, 3 calls were here already" in longer.stdout
    with closing(OpenStore(settings.database_url)) as store:
        assert (counted(store, call), counted(store, signal)) == (4, 3)


def test_gzip_stdin_and_dry_run(file: Path, settings: Settings) -> None:
    zipped = file.with_suffix(".jsonl.gz")
    zipped.write_bytes(gzip.compress(file.read_bytes()))
    dry = run(zipped, "calls", settings, "--dry-run")
    assert '"output": "4"' in dry.stdout
    assert "3 calls and 3 signals would be kept" in dry.stdout
    assert "3 calls and 3 signals kept" in run("-", "calls", settings, stdin=zipped.read_bytes()).stdout


def test_a_broken_gzip_keeps_what_came_before(file: Path, settings: Settings, tmp_path: Path) -> None:
    rows = b"".join(b'{"output": "%d"}\n' % n for n in range(4_000))
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(rows)[:-800])
    done = run(broken, "calls", settings)
    assert done.exit_code == 1
    assert "cannot be read past line" in done.stderr
    with closing(OpenStore(settings.database_url)) as store:
        assert counted(store, call) > 0


def test_a_file_that_no_line_of_fits_ends_with_1(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a\nb\n")
    done = run(path, "calls", settings)
    assert done.exit_code == 1
    assert "Does the mapping fit this file?" in done.stderr
    assert "No such file" in run(tmp_path / "none", "calls", settings).stderr
    assert "is no ISO week" in run(path, "calls", settings, "--shift-to", "yesterday").stderr
    assert "has not begun yet" in run(path, "calls", settings, "--shift-to", "2199-W01").stderr


def test_shifting_keeps_weekday_and_time_and_says_so(
    file: Path, settings: Settings, store: OpenStore
) -> None:
    mapping = load_mapping(Path("calls"))
    told = import_lines(lines_of(file), mapping, StoreDoor(store, settings), week=WEEK)
    assert told.calls == 3
    with store.read() as connection:
        rows = connection.execute(select(call.c.started_at_ms, call.c.tags)).all()
        at_ms = connection.execute(select(signal.c.at_ms).where(signal.c.kind == "thumbs_down")).scalar_one()
    # A Wednesday, 10:40:09, stays one.
    wednesday_ms = WEEK.since_ms + 2 * 86_400_000 + (10 * 3600 + 40 * 60 + 9) * 1000
    moved = {tags["shifted_from"]: ms for ms, tags in rows}
    assert moved["2018-10-31T10:40:09+00:00"] == wednesday_ms == at_ms
    assert all(WEEK.holds(ms) for ms, _tags in rows)
    assert sum(tags["shifted_from"] == "no time in the file" for _ms, tags in rows) == 2


def test_a_dialogue_keeps_its_order_and_its_rating_comes_last(store: OpenStore, settings: Settings) -> None:
    turns = [
        {"role": role, "text": text, "thumb": None}
        for role, text in (("human", "hi"), ("bot", "hello"), ("human", "so?"), ("bot", "well"))
    ]
    row = {"item_id": "s", "start": None, "bot": "b", "part": "p", "session_score": 1, "turns": turns}
    told = import_lines(
        iter([json.dumps(row).encode()]), load_mapping(Path("convai2")), StoreDoor(store, settings), week=WEEK
    )
    assert (told.calls, told.signals) == (2, 1)
    with store.read() as connection:
        first, second = connection.execute(select(call.c.id, call.c.started_at_ms).order_by(call.c.id)).all()
        rated = connection.execute(
            select(call.c.id).join(signal, signal.c.call_seq == call.c.seq)
        ).scalar_one()
    assert second.started_at_ms == first.started_at_ms + 1000
    assert rated == second.id


@pytest.mark.data
def test_llmperf_lists_the_two_slow_ones_of_together(store: OpenStore, settings: Settings) -> None:
    """Two of 149 answered requests took over 100 s, which no p95 shows."""
    path = shared("traces_llmperf/requests.jsonl.gz")
    together = (line for line in lines_of(path) if b'"together"' in line and b"13b" in line)
    told = import_lines(together, load_mapping(Path("llmperf")), StoreDoor(store, settings), week=WEEK)
    assert (told.calls, told.bad) == (150, 0)
    window = (DEFAULT_PROJECT, WEEK.since_ms, WEEK.until_ms)
    with read_counted(store) as connection:
        (tail,) = tails(connection, *window, group_by="model")
        p95 = next(one for one in tail.quantiles if one.q == 0.95)
        slow = slowest(connection, *window, group_by="model", group=tail.group, limit=3)
    assert p95.value_ms is not None
    assert p95.value_ms < 5_000
    assert [one.value_ms > 100_000 for one in slow] == [True, True, False]


@pytest.mark.data
def test_llmperf_errors_are_the_services_own(store: OpenStore, settings: Settings) -> None:
    path = shared("traces_llmperf/requests.jsonl.gz")
    wanted = (line for line in lines_of(path) if b'"lepton"' in line or b'"bedrock"' in line)
    told = import_lines(wanted, load_mapping(Path("llmperf")), StoreDoor(store, settings))
    assert told.bad == 0
    with store.read() as connection:
        rows = connection.execute(
            select(slice_.c.provider, call.c.error_type, func.count())
            .join(slice_, slice_.c.id == call.c.slice_id)
            .group_by(slice_.c.provider, call.c.error_type)
        ).all()
    found = {(provider, error): n for provider, error, n in rows}
    # bedrock's -100 was the benchmark's own rule.
    assert found == {("lepton", None): 60, ("lepton", "rate_limit"): 390, ("bedrock", None): 300}


@pytest.mark.data
def test_real_dialogues_go_in_with_their_thumbs(store: OpenStore, settings: Settings) -> None:
    path = shared("convai2_thumbs/dialogues.jsonl.gz")
    mapping = load_mapping(Path("convai2"))
    rows = [json.loads(line) for line in lines_of(path, 150)]
    answered = sum(turn["role"] == "bot" for row in rows for turn in row["turns"])
    thumbs = sum(turn["thumb"] is not None for row in rows for turn in row["turns"])

    def bring() -> Told:
        return import_lines(lines_of(path, 150), mapping, StoreDoor(store, settings), week=WEEK)

    told = bring()
    assert (told.calls, told.bad) == (answered, 0)
    assert told.signals >= thumbs > 20
    assert bring().calls == 0
    assert counted(store, call) == answered


class Counting:
    """A door that keeps nothing and remembers how large its requests were."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, int]] = []

    def send(self, calls: list[dict[str, Any]], signals: list[dict[str, Any]]) -> tuple[Receipt, Receipt]:
        self.requests.append((len(calls), len(json.dumps(calls))))
        kept, noted = (
            Receipt(accepted=len(items), duplicates=0, rejected=[], unknown_fields=[])
            for items in (calls, signals)
        )
        return kept, noted


def test_a_long_dialogue_is_sent_in_several_requests() -> None:
    """Each answer's input is everything before it: 600 turns of 500 characters are 90 MB."""
    turns = [{"role": role, "text": "x" * 500, "thumb": 1} for _ in range(300) for role in ("human", "bot")]
    row = {"item_id": "s", "start": None, "bot": "b", "part": "p", "session_score": 1, "turns": turns}
    door = Counting()
    told = import_lines(iter([json.dumps(row).encode()]), load_mapping(Path("convai2")), door)
    assert (told.calls, told.signals) == (300, 301)
    assert all(n <= BATCH_CALLS and size <= 1.1 * BATCH_BYTES for n, size in door.requests)
    assert sum(n for n, _size in door.requests) == 300
