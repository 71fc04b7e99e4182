"""A golden set: calls with people's labels, one JSON object a line, as `lowlight rubric test` reads it.

Flow: FILE.jsonl -> `read_golden` -> calls and labels in the wire's shapes -> intake of a trial's own store.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ingest.errors import IngestError
from ingest.wire import calls_of, labels_of

#: A file that a person can review; more is a rescore.
CALLS_MAX = 10_000


class BadGolden(IngestError):
    """A golden set cannot be used; the message names its line and what to change."""


@dataclass
class Golden:
    """What a file holds.

    Attributes:
        calls: as in POST /v1/calls, each with an id.
        labels: as in POST /v1/labels.
    """

    calls: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rubrics(self) -> set[str]:
        """The rubrics that any call is labelled under."""
        return {label["rubric"] for label in self.labels}


def read_golden(file: Path) -> Golden:
    """Read `{"input": .., "output": .., "labels": {"tone": 6, "accuracy": [2, 3]}}`, one call a line.

    Further fields are those of POST /v1/calls; a list of levels is several people's. A call without an id is
    named after its line.

    Raises:
        BadGolden: the file cannot be read, or a line is no such call.
    """
    golden = Golden()
    lines_of: dict[str, int] = {}
    for number, line in _lines(file):
        where = f"{file}:{number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadGolden(f"{where}: is not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise BadGolden(f"{where}: is {type(row).__name__}; write one JSON object a line")
        labels = row.pop("labels", None)
        call = {"id": f"line-{number}", **row}
        sent = calls_of([call])
        if sent.rejected:
            refused = sent.rejected[0]
            raise BadGolden(f"{where}: {refused.field or 'the call'} {refused.error}")
        call["id"] = sent.items[0].id
        if call["id"] in lines_of:
            raise BadGolden(f"{where}: id {call['id']!r} is that of line {lines_of[call['id']]} already")
        lines_of[call["id"]] = number
        golden.calls.append(call)
        golden.labels += _labels(where, call["id"], labels)
        if len(golden.calls) > CALLS_MAX:
            raise BadGolden(f"{file}: holds more than {CALLS_MAX:,} calls; take a sample of them")
    if not golden.calls:
        raise BadGolden(f"{file}: holds no call; write one JSON object a line")
    return golden


def _labels(where: str, call_id: str, labels: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(labels, dict) or not labels:
        raise BadGolden(f'{where}: labels is missing; write for example "labels": {{"tone": 6}}')
    made = []
    for rubric, levels in labels.items():
        for person, level in enumerate(levels if isinstance(levels, list) else [levels], start=1):
            made.append(
                {"call_id": call_id, "rubric": rubric, "level": level, "labeller": f"person {person}"}
            )
    sent = labels_of(made)
    if sent.rejected:
        refused = sent.rejected[0]
        rubric = made[refused.index]["rubric"]
        raise BadGolden(f"{where}: labels.{rubric}: {refused.error}")
    yield from made


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with file.open("rb") as opened:
            for number, line in enumerate(opened, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise BadGolden(f"{file}: cannot be read: {error.strerror}") from error
