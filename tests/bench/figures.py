"""What a benchmark prints: a table for people, then one JSON line for programs.

Flow: a program of tests/bench measures -> list of Figure -> `report` -> stdout. Its exit status is 0 when it
measured, whatever it found: a goal missed is a figure too.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Where `../shared/data` lies as seen from the project's root, which `make bench` runs in.
DATA = Path("../shared/data")


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        name: unit last, as in code: "calls_per_s_batch_500".
        value: what was measured; None where it could not be, and then `holds` is False if it has a goal.
        floor: the same thing done by the simplest program that could, in the same run.
        goal: the issue's own words, or None for a figure without a goal.
        holds: whether the goal was reached; True without one.
    """

    name: str
    value: float | int | None
    floor: float | int | None = None
    goal: str | None = None
    holds: bool = True


def options(description: str) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes: --seed and --data."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the data sets (default {DATA})")
    return parser


def report(bench: str, figures: Sequence[Figure]) -> None:
    """Print the table, then the JSON object as the last line of stdout."""
    rows = [("figure", "value", "floor", "of floor", "goal", "holds")]
    for figure in figures:
        share = f"{figure.value / figure.floor:.2f}" if figure.value is not None and figure.floor else ""
        holds = "" if figure.goal is None else "yes" if figure.holds else "NO"
        rows.append(
            (figure.name, _shown(figure.value), _shown(figure.floor), share, figure.goal or "", holds)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if 1 <= i <= 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(json.dumps({"bench": bench, "figures": {f.name: _as_json(f) for f in figures}}), flush=True)


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"


def _as_json(figure: Figure) -> dict[str, Any]:
    shown: dict[str, Any] = {"value": _finite(figure.value), "goal": figure.goal, "holds": bool(figure.holds)}
    return shown if figure.floor is None else shown | {"floor": _finite(figure.floor)}


def _finite(value: float | int | None) -> float | int | None:
    """JSON has no NaN and no infinity; a figure that is neither measured nor finite is null."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else round(float(value), 6)


def peak_memory_mb(process_id: int | str = "self") -> float:
    """Return the largest resident memory that a process's program had, in 10^6 bytes; NaN where unknown.

    `getrusage` would not do: what the process that started it held counts in its maximum.
    """
    status = Path(f"/proc/{process_id}/status")
    if not status.exists():
        return math.nan
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
