"""Reads the sets of `../shared/data` as calls for the local critic's benches. Nothing is copied.

Flow: DIR/<set>/*.jsonl.gz -> Rated rows -> tests.bench.local_critic, tests.bench.fit_shipped_guard.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from critic.local import Texts


class NoData(Exception):
    """A set's folder is missing; name another with `--data DIR`."""


@dataclass(frozen=True)
class Rated:
    """One output and what people said of it.

    Attributes:
        item, group: what it is called, and what it must be split by.
        system: who wrote it; '' where the set does not say.
        call: its texts.
        human: mean rating by dimension, on the set's own scale.
    """

    item: str
    group: str
    call: Texts
    system: str = ""
    human: dict[str, float] = field(default_factory=dict)


def rows_of(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of `folder`/`name`.

    Raises:
        NoData: it is not there.
    """
    path = folder / name
    if not path.is_file():
        raise NoData(f"{path} is missing; name the data folder with --data DIR")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def hundredth(group: str) -> int:
    """Return 0..99 by a hash of the group's id: the same split on every machine."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 100


def _mean(values: list[float | None]) -> float:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known)


def summeval(data: Path) -> list[Rated]:
    """Summaries of news articles by 12 systems; the experts' four dimensions, 1..5."""
    return [
        Rated(
            row["item_id"],
            row["group_id"],
            Texts("Summarise the article in a few sentences.", row["output"], (row["source"],)),
            row["system"],
            {dimension: _mean(scores) for dimension, scores in row["human"]["expert"].items()},
        )
        for row in rows_of(data / "summeval12", "items.jsonl.gz")
    ]


def newsroom(data: Path) -> list[Rated]:
    """Summaries of news articles by 7 systems; the crowd's four dimensions, 1..5."""
    return [
        Rated(
            row["item_id"],
            row["group_id"],
            Texts("Summarise the article in a few sentences.", row["output"], (row["source"],)),
            row.get("system", ""),
            {dimension: _mean(scores) for dimension, scores in row["human"].items()},
        )
        for row in rows_of(data / "newsroom60", "items.jsonl.gz")
    ]


def halueval(data: Path) -> list[Rated]:
    """Open chat: a query and ChatGPT's answer; `fine` is 1 where people found nothing invented."""
    return [
        Rated(
            row["item_id"],
            row["group_id"],
            Texts(row["source"], row["output"]),
            human={"fine": 1.0 - row["human_hallucination"]},
        )
        for row in rows_of(data / "halueval_general", "items.jsonl.gz")
    ]


def topicalchat(data: Path) -> list[Rated]:
    """Replies in a conversation with a fact at hand."""
    return [
        Rated(
            row["item_id"],
            row["group_id"],
            Texts(row["source"].strip().split("\n")[-1], row["output"], (row["context"], row["source"])),
            row["system"],
            row["human_mean"],
        )
        for row in rows_of(data / "topicalchat20", "items.jsonl.gz")
    ]


def roscoe(data: Path) -> list[Rated]:
    """Chains of reasoning about a problem that is given."""
    return [
        Rated(
            row["item_id"], row["group_id"], Texts("Solve it step by step.", row["output"], (row["source"],))
        )
        for row in rows_of(data / "roscoe_overall", "items.jsonl.gz")
    ]


def feedbackqa(data: Path) -> list[Rated]:
    """A question about rules, and the passage given as its answer; people's 1..4."""
    return [
        Rated(
            row["item_id"],
            row["group_id"],
            Texts(row["question"], row["output"]),
            human={"rating": _mean(row["human"])},
        )
        for row in rows_of(data / "feedbackqa", "items.jsonl.gz")
    ]


def expertqa(data: Path) -> list[Rated]:
    """Questions of experts and models' answers."""
    return [
        Rated(row["item_id"], row["group_id"], Texts(row["question"], row["output"]), row["system"])
        for row in rows_of(data / "expertqa", "items.jsonl.gz")
    ]


def llmbar(data: Path) -> list[Rated]:
    """Instructions; of each pair the output that follows them."""
    return [
        Rated(
            row["item_id"],
            row["group_id"],
            Texts(row["input"], row["output_a" if row["human_better"] == "a" else "output_b"]),
        )
        for row in rows_of(data / "llmbar", "items.jsonl.gz")
    ]


def task_dialogues(data: Path) -> list[Rated]:
    """What a booking or shopping assistant answered to its user, one turn a dialogue."""
    found = []
    for row in rows_of(data / "user_satisfaction", "dialogues.jsonl.gz"):
        turns = row["turns"]
        pairs = [
            (asked["text"], said["text"])
            for asked, said in pairwise(turns)
            if asked["role"] == "user" and said["role"] == "system" and len(said["text"]) > 20
        ]
        if pairs:
            asked, said = pairs[hundredth(row["item_id"] + "turn") % len(pairs)]
            found.append(Rated(row["item_id"], row["group_id"], Texts(asked, said)))
    return found


def product_help(data: Path) -> list[Rated]:
    """What an assistant for cloud products answered, the last turn of each dialogue."""
    found = []
    for row in rows_of(data / "llm_rubric", "items.jsonl.gz"):
        turns = row["dialogue"] or []
        for asked, said in zip(turns[::-1][1:], turns[::-1], strict=False):
            if asked["role"] == "user" and said["role"] == "assistant":
                found.append(Rated(row["item_id"], row["group_id"], Texts(asked["content"], said["content"])))
                break
    return found


#: Sets by name; a bench takes those it needs.
SETS: dict[str, Callable[[Path], list[Rated]]] = {
    "summeval": summeval,
    "newsroom": newsroom,
    "halueval": halueval,
    "topicalchat": topicalchat,
    "roscoe": roscoe,
    "feedbackqa": feedbackqa,
    "expertqa": expertqa,
    "llmbar": llmbar,
    "task_dialogues": task_dialogues,
    "product_help": product_help,
}
