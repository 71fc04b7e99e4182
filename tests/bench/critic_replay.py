"""Recorded critics replayed without a key: real answers through the score tables and the agreement code.

Flow: DIR/{summeval12,topicalchat20,empathy7pt} -> calls (`ingest.intake`) and score rows
(`critic.queue`) of a fresh store -> read back -> `critic.trust.agreement` -> a table and figures of
`make bench BENCH=critic`. `python -m tests.bench.critic_replay --write docs/recorded-critics.md` writes the
table as a page.

Every scale is stretched to 1..7, people's and critics' alike; people's labels on the true seven-point scale
(empathy) go through the label table as well. Other scales have halves that no label row can hold.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, select

from api.schema import upgrade
from critic import queue
from critic.drivers.base import score_of
from critic.levels import of_draws, stretched
from critic.queue.rows import Finished, NewScore
from critic.tables import Score
from critic.trust.agreement import Agreement, Compared, Estimate, agreement, labelled
from ingest.intake import Intake
from ingest.settings import load_settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, Label, columns
from ingest.wire import parse_calls, parse_labels
from tests.bench.figures import Figure, options, report
from tests.bench.rated_sets import rows_of

CALL, LABEL, SCORE = columns(Call), columns(Label), columns(Score)
BATCH = 1000
NOW_MS = 1_790_000_000_000


@dataclass(frozen=True)
class Item:
    """One output that people rated and a critic answered under one question.

    Attributes:
        output: what is rated, one call each: its id in the set.
        question: the set and dimension, and the style of asking where a critic was asked in several.
        people: levels 1..7 of each person (or their mean, where only that is known).
        draws: the critic's levels 1..7.
    """

    output: str
    group: str
    question: str
    critic: str
    people: tuple[float, ...]
    draws: tuple[float, ...]


def summeval(data: Path) -> Iterator[Item]:
    """Summaries by 12 systems; three experts, 1..5; one answer of each critic, a reason, then the score."""
    people = {
        row["item_id"]: row["human"]["expert"] for row in rows_of(data / "summeval12", "items.jsonl.gz")
    }
    for row in rows_of(data / "summeval12", "critics.jsonl.gz"):
        if row["style"] == "rts" and row["score"] is not None:
            levels = tuple(stretched(value, 1, 5) for value in people[row["item_id"]][row["dimension"]])
            draws = (stretched(row["score"], 1, 5),)
            question = f"summeval {row['dimension']}"
            yield Item(row["item_id"], row["group_id"], question, row["critic"], levels, draws)


def topicalchat(data: Path) -> Iterator[Item]:
    """Replies; the mean of three raters; up to 20 draws of a critic, score only and score before reason."""
    people = {row["item_id"]: row["human_mean"] for row in rows_of(data / "topicalchat20", "items.jsonl.gz")}
    for row in rows_of(data / "topicalchat20", "critics.jsonl.gz"):
        low, high = row["scale"]
        drawn = [value for value in row["scores"] if value is not None and low <= value <= high]
        if drawn and row["style"] in ("score_only", "rate_then_explain", "analyse_then_rate"):
            level = stretched(people[row["item_id"]][row["dimension"]], low, high)
            draws = tuple(stretched(value, low, high) for value in drawn)
            question = f"topicalchat {row['dimension']}, {row['style'].replace('_', ' ')}"
            yield Item(row["item_id"], row["group_id"], question, row["critic"], (level,), draws)


def empathy(data: Path) -> Iterator[Item]:
    """Ratings of perceived empathy on a true 1..7 scale, nine of a conversation; three experts."""
    for row in rows_of(data / "empathy7pt", "ratings.jsonl.gz"):
        if row["set"] == "perceived_empathy":
            for critic, level in row["critics"].items():
                if level is not None:
                    people = tuple(row["human"]["experts"])
                    yield Item(row["item_id"], row["group_id"], "perceived empathy", critic, people, (level,))


SETS: tuple[Callable[[Path], Iterator[Item]], ...] = (summeval, topicalchat, empathy)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    question: str
    critic: str
    found: Agreement


def replayed(data: Path, seed: int) -> list[Row]:
    """Send every recorded answer through a fresh store and hold what comes back beside people.

    Raises:
        tests.bench.rated_sets.NoData: a set's folder is missing.
    """
    items = [item for read in SETS for item in read(data)]
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(database_url=f"sqlite:///{Path(folder) / 'replay.db'}")
        upgrade(settings.database_url)
        store = OpenStore(settings.database_url)
        try:
            return [
                Row(question, critic, agreement(compared, seed=seed))
                for question, critic, compared in _through_the_store(store, Intake(store, settings), items)
            ]
        finally:
            store.close()


def _through_the_store(
    store: OpenStore, intake: Intake, items: Sequence[Item]
) -> Iterator[tuple[str, str, Compared]]:
    outputs = {item.output: item for item in items}
    for batch in _cut(list(outputs.values())):
        calls = [{"id": one.output, "session_id": one.group, "started_at": NOW_MS} for one in batch]
        receipt = intake.accept_calls(DEFAULT_PROJECT, parse_calls(orjson.dumps({"calls": calls})))
        assert receipt.accepted == len(batch), receipt
    with store.read() as connection:
        seqs: dict[str, int] = dict(connection.execute(select(CALL.c.id, CALL.c.seq)).all())
    for batch in _cut(items):
        store.write(lambda connection, part=batch: _score(connection, part, seqs))  # type: ignore[misc]
    by_question: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        by_question.setdefault((item.question, item.critic), []).append(item)
    _label(intake, by_question)
    for (question, critic), asked in by_question.items():
        with store.read() as connection:
            yield question, critic, _compared(connection, question, critic, asked, seqs)


def _score(connection: Connection, items: Sequence[Item], seqs: dict[str, int]) -> None:
    """Make the answers' rows, lease them and hand the answers in, as a worker does."""
    blobs = {item.question: item.question.replace(" ", "-") for item in items}
    versions = [
        {
            "blob": blob,
            "name": question,
            "view_blob": "recorded",
            "question": question,
            "levels": ["as recorded"] * 7,
            "source": "",
            "committed": None,
        }
        for question, blob in blobs.items()
    ]
    asked = {(seqs[one.output], one.question, one.critic): one for one in items}
    scores = [
        NewScore(call_seq, question, blobs[question], "recorded", critic)
        for call_seq, question, critic in asked
    ]
    queue.take_todo(
        connection, todo_seqs=(), scores=scores, readings=(), reopen=(), versions=versions, now_ms=NOW_MS
    )
    for critic in {one.critic for one in items}:
        leased = queue.lease(connection, critic, calls_max=BATCH, now_ms=NOW_MS, lease_ms=60_000)
        finished = []
        for row in leased:
            draws = asked[row.call_seq, row.rubric, critic].draws
            probabilities = of_draws(draws)
            finished.append(
                Finished(
                    row.seq,
                    row.token,
                    "scored",
                    probabilities=probabilities,
                    score=score_of(probabilities),
                    draws=len(draws),
                )
            )
        late = queue.finish(connection, finished, now_ms=NOW_MS)
        assert not late, "somebody else had the lease"


def _label(intake: Intake, by_question: dict[tuple[str, str], list[Item]]) -> None:
    """Keep people's levels as labels where the scale is ours."""
    labels: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (question, _critic), items in by_question.items():
        if question == "perceived empathy":
            for item in items:
                for person, level in enumerate(item.people):
                    named = {"call_id": item.output, "rubric": question, "labeller": f"expert {person + 1}"}
                    labels[item.output, question, named["labeller"]] = {**named, "level": int(level)}
    for batch in _cut(list(labels.values())):
        receipt = intake.accept_labels(DEFAULT_PROJECT, parse_labels(orjson.dumps({"labels": batch})))
        assert receipt.accepted == len(batch), receipt


def _compared(
    connection: Connection, question: str, critic: str, items: Sequence[Item], seqs: dict[str, int]
) -> Compared:
    compared = labelled(connection, DEFAULT_PROJECT, question, critic)
    if compared.said:
        return compared
    mine = (SCORE.c.rubric == question, SCORE.c.critic == critic, SCORE.c.status == "scored")
    said: dict[int, float] = dict(
        connection.execute(select(SCORE.c.call_seq, SCORE.c.score).where(*mine)).all()
    )
    return Compared(
        [said[seqs[item.output]] for item in items],
        [item.people for item in items],
        [item.group for item in items],
    )


def _cut(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """The issue's two numbers, reproduced within .02 on the shared part."""
    summaries = [row.found.rho.value or 0.0 for row in rows if _is(row, "summeval", "gpt-4-0314")]
    heard = [row.found.rho.value for row in rows if _is(row, "perceived empathy", "gpt-4o")]
    return [
        _reproduced("rho_gpt_4o_perceived_empathy", heard[0], "GPT-4o on perceived empathy rho .51", 0.51),
        _reproduced(
            "rho_gpt_4_summeval_mean_of_four",
            sum(summaries) / len(summaries) if len(summaries) == 4 else None,
            "GPT-4 on SummEval, mean of four dimensions, rho .46",
            0.46,
        ),
    ]


def _is(row: Row, question: str, critic: str) -> bool:
    return row.question.startswith(question) and row.critic == critic


def _reproduced(name: str, value: float | None, goal: str, published: float) -> Figure:
    holds = value is not None and abs(value - published) <= 0.02
    return Figure(name, value, None, f"{goal}, within .02", holds)


HEADER = (
    "question",
    "critic",
    "n",
    "MAE",
    "constant's",
    "people's",
    "rho",
    "people's rho",
    "QWK",
    "within one",
    "bias",
)


def cells(row: Row) -> tuple[str, ...]:
    """Return a line of the table, figures with their 95 % intervals."""
    found = row.found
    return (
        row.question,
        row.critic,
        str(found.n),
        _shown(found.mae),
        _shown(found.constant_mae, interval=False),
        _shown(found.ceiling_mae, interval=False),
        _shown(found.rho),
        _shown(found.ceiling_rho, interval=False),
        _shown(found.qwk, interval=False),
        _shown(found.within_one, interval=False),
        _shown(found.bias),
    )


def _shown(one: Estimate, *, interval: bool = True) -> str:
    if one.value is None:
        return "unknown"
    if not interval or one.low is None:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


PAGE = """# Recorded critics beside people

A recorded critic is one to two labels off, often farther than a constant answer: its rank is what it knows.

Real answers of critics, replayed through Lowlight's score tables and `critic/trust/agreement.py`; all scales
stretched to 1..7. "Constant's" is the mean error of always answering the median; "people's" is one person
beside the others who rated the same output (unknown where only their mean was published). Brackets are 95 %
intervals, by a bootstrap over documents or conversations. Only the shared part of each set is here.

Printed by `.venv/bin/python -m tests.bench.critic_replay --write docs/recorded-critics.md`; the data sets are
not part of this repository.

"""


def as_page(rows: Sequence[Row]) -> str:
    """Return the table as a Markdown page."""
    lines = [HEADER, ("---",) * len(HEADER), *(cells(row) for row in rows)]
    return PAGE + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    lines = [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> None:
    """Replay, print the table, and write it where asked."""
    parser = options(__doc__ or "")
    parser.add_argument("--write", type=Path, help="write the table as a Markdown page")
    asked = parser.parse_args()
    rows = replayed(asked.data, asked.seed)
    print(as_text(rows))
    if asked.write is not None:
        asked.write.write_text(as_page(rows), encoding="utf-8")
    report("critic-replay", figures(rows))


if __name__ == "__main__":
    main()
