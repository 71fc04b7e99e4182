"""Shapes of real traffic for the incidents' benchmark, read in place: arrivals, token counts, tails, thumbs.

Flow: the public traces under `--data` -> `read_shapes` -> tests.bench.incidents_traffic draws from them. No
row of theirs is kept: a week takes its rhythm, a prompt its lengths and a service its ratio of slow to usual.
"""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Windows of the arrival trace, and how many of them make a week.
WINDOW_S = 600
WEEK_WINDOWS = 7 * 24 * 6
NEEDED = (
    "traces_servegen/language_m-small.csv.gz",
    "traces_azure2023/conv.csv.gz",
    "traces_azure2023/code.csv.gz",
    "traces_mooncake/conversation.jsonl.gz",
    "traces_llmperf/requests.jsonl.gz",
    "convai2_thumbs/dialogues.jsonl.gz",
)


class DataMissing(SystemExit):
    """A folder of the data sets is not there; name another one with --data."""


@dataclass(frozen=True)
class Shapes:
    """What real traffic looks like.

    Attributes:
        arrivals: requests in each ten minutes of two weeks, shape (2 * 1008,).
        tokens: name of a trace -> (input, output) token counts of its requests, shape (n, 2).
        slowness: for each measured service, latency over its own median, shape (m,) each.
        vote_rate: share of turns with a thumb in dialogues that people rated (low, high).
        down_rate: share of thumbs-down among those thumbs (low, high).
    """

    arrivals: Floats
    tokens: dict[str, Floats]
    slowness: list[Floats]
    vote_rate: tuple[float, float]
    down_rate: tuple[float, float]


def read_shapes(data: Path) -> Shapes:
    """Read the shapes.

    Raises:
        DataMissing: a file is not there.
    """
    missing = [name for name in NEEDED if not (data / name).exists()]
    if missing:
        raise DataMissing(
            f"The incidents' benchmark shapes its traffic on public traces, and {data} has no "
            f"{', '.join(missing)}: name the folder of the data sets with --data."
        )
    vote_rate, down_rate = _thumbs(data / NEEDED[5])
    return Shapes(
        arrivals=_arrivals(data / NEEDED[0]),
        tokens={
            "chat": _azure(data / NEEDED[1]),
            "code": _azure(data / NEEDED[2]),
            "documents": _mooncake(data / NEEDED[3]),
        },
        slowness=_slowness(data / NEEDED[4]),
        vote_rate=vote_rate,
        down_rate=down_rate,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _table(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _arrivals(path: Path) -> Floats:
    """Return the requests of all clients in each window of two weeks; a gap takes the mean."""
    rate = np.zeros(2 * WEEK_WINDOWS)
    for row in _table(path):
        window = int(float(row["window_start_s"])) // WINDOW_S
        if window < len(rate):
            rate[window] += float(row["rate_per_s"])
    return np.where(rate > 0, rate, rate[rate > 0].mean())


def _azure(path: Path) -> Floats:
    return np.array([(float(row["ContextTokens"]), float(row["GeneratedTokens"])) for row in _table(path)])


def _mooncake(path: Path) -> Floats:
    return np.array([(row["input_length"], row["output_length"]) for row in _lines(path)], dtype=np.float64)


def _slowness(path: Path) -> list[Floats]:
    """Return latency over median of each service with at least 140 answers; the slow ends are real."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in _lines(path):
        if row["e2e_s"] and not row["error_code"]:
            took[row["provider"], row["model"]].append(row["e2e_s"])
    services = (np.array(values) for _service, values in sorted(took.items()) if len(values) >= 140)
    return [values / np.median(values) for values in services]


def _thumbs(path: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return how often people vote, and how often down, in dialogues rated 1-2 and 4-5."""
    turns, votes, downs = ({"low": 0, "high": 0} for _ in range(3))
    for row in _lines(path):
        score = row["session_score"]
        if row["part"].startswith("toloka") or score is None or score == 3:
            continue
        side = "low" if score < 3 else "high"
        for turn in row["turns"]:
            if turn["role"] == "bot":
                turns[side] += 1
                votes[side] += turn["thumb"] is not None
                downs[side] += turn["thumb"] == 0
    return (
        (votes["low"] / turns["low"], votes["high"] / turns["high"]),
        (downs["low"] / votes["low"], downs["high"] / votes["high"]),
    )
