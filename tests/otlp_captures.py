"""Reads the OTLP captures of `../shared/data/otlp-captures` (or of LOWLIGHT_DATA); nothing is copied.

Where that folder is missing, the selection in tests/fixtures/otlp/captures stands in: the small requests of
every dialect, with which most tests still say the same.
"""

import gzip
import hashlib
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ingest.packing import unpacked

ROOT = Path(__file__).resolve().parents[1]
SELECTION = ROOT / "tests" / "fixtures" / "otlp" / "captures"
EXPECTED = ROOT / "tests" / "fixtures" / "otlp" / "expected.json"


@dataclass(frozen=True)
class Capture:
    """One captured request. `signal` is traces, logs or metrics."""

    instrumentation: str
    scenario: str
    signal: str
    path: str
    protobuf: Path
    json: Path

    @property
    def name(self) -> str:
        """The file's name without its suffix, with the folder."""
        return f"{self.instrumentation}/{self.protobuf.name.partition('.pb')[0]}"

    def body(self, *, is_json: bool = False) -> bytes:
        """The request's body, unpacked."""
        path = self.json if is_json else self.protobuf
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content


def folder() -> Path:
    """The folder of all captures; the committed selection where it is missing."""
    shared = Path(os.environ.get("LOWLIGHT_DATA", ROOT.parent / "shared" / "data")) / "otlp-captures"
    return shared if (shared / "index.json").exists() else SELECTION


def is_whole() -> bool:
    """Whether all captures are here."""
    return folder() != SELECTION


@cache
def captures() -> tuple[Capture, ...]:
    """The OTLP requests, in the order of their index; Langfuse's requests outside OTLP left out."""
    here = folder()
    found = []
    for entry in json.loads((here / "index.json").read_text()):
        if entry["signal"] == "http":
            continue
        protobuf, as_json = (here / name for name in sorted(entry["files"], key=lambda name: ".json" in name))
        found.append(
            Capture(
                entry["instrumentation"],
                entry["scenario"],
                entry["signal"],
                entry["request_path"],
                protobuf,
                as_json,
            )
        )
    return tuple(found)


def of(instrumentation: str, scenario: str, signal: str | None = None) -> list[Capture]:
    """The requests of one scenario of one instrumentation."""
    return [
        capture
        for capture in captures()
        if (capture.instrumentation, capture.scenario) == (instrumentation, scenario)
        and signal in (None, capture.signal)
    ]


_KEPT = """
select call.id, provider, model, input, input_json, output, output_json, outcome, finish_reason, error_type,
  error_message, latency_ms, first_token_ms, input_tokens, output_tokens, cached_input_tokens,
  reasoning_tokens, retries, session_id, user_id, response_id, environment, release, tools, tags,
  input_chars, output_chars
from call join slice on slice.id = slice_id left join call_text on call_seq = call.seq
order by started_at_ms, call.id
"""


def kept_calls(path: Path) -> dict[str, dict[str, Any]]:
    """What a database holds of its calls, by id: fields that are known; of long texts a hash."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute(_KEPT)]
    calls = {}
    for row in rows:
        for name in ("input", "output"):
            row[name] = unpacked(row[name])
            if row.pop(f"{name}_json"):
                row[name] = json.loads(row[name])
            if len(str(row[name])) > 2_000:
                row[name] = hashlib.sha256(json.dumps(row[name]).encode()).hexdigest()
        for name in ("tools", "tags"):
            row[name] = json.loads(row[name]) if row[name] else None
        for name in ("latency_ms", "first_token_ms"):
            row[name] = row[name] if row[name] is None else round(row[name], 3)
        calls[row["id"]] = {name: value for name, value in row.items() if value not in (None, "")}
    return calls
