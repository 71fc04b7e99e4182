"""What Lowlight finds in 2,845 real requests to eight hosted services: `make bench BENCH=real-tails`.

Flow: traces_llmperf -> `lowlight import` with its shipped mapping -> the latency queries and the causes that
the weekly computation keeps -> sentences. docs/found-in-real-data.md tells what they say.
"""

import tempfile
from pathlib import Path

from click.testing import CliRunner
from sqlalchemy import func, select

from api.cli import main as lowlight
from api.schema import upgrade
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import DEFAULT_PROJECT, Call, columns
from outliers.causes.tail_causes import TailCauses, find_causes
from outliers.frame import week_calls
from outliers.latency.tails import Tail, tails
from outliers.weeks import week_of
from tests.bench.figures import Figure, options, report

FILE = Path("traces_llmperf") / "requests.jsonl.gz"


def main() -> None:
    """Import, look, print."""
    asked = options(__doc__ or "").parse_args()
    if not (asked.data / FILE).exists():
        raise SystemExit(f"{asked.data / FILE} is missing: name the folder of the data sets with --data.")
    with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
        settings = Settings(database_url=f"sqlite:///{Path(folder) / 'real.db'}", critic="none")
        upgrade(settings.database_url)
        done = CliRunner().invoke(
            lowlight,
            [
                "import",
                str(asked.data / FILE),
                "--mapping",
                "llmperf",
                "--database-url",
                settings.database_url,
            ],
        )
        if done.exit_code:
            raise SystemExit(done.output)
        store = OpenStore(settings.database_url)
        with store.read() as connection:
            newest = connection.execute(select(func.max(columns(Call).c.started_at_ms))).scalar_one()
            week = week_of(newest, settings.zone)
            services = tails(connection, DEFAULT_PROJECT, week.since_ms, week.until_ms, group_by="service")
        causes = find_causes(store, DEFAULT_PROJECT, week_calls(store, DEFAULT_PROJECT, week), settings.zone)
        store.close()
    print("\nservices, by how many calls failed")
    for service in sorted(services, key=lambda one: -one.n_failed):
        print("  " + _service(service))
    for tail in causes:
        print(f"\n{tail.scope}: {tail.words}, {tail.n_tail} of {tail.n} calls, from {_s(tail.from_ms)}")
        for line in _lines(tail):
            print("  " + line)
    everything = causes[0]
    report(
        "real_tails",
        [
            Figure("calls", sum(service.n for service in services)),
            Figure("services", len(services)),
            Figure("failed", sum(service.n_failed for service in services)),
            Figure("slow_calls_explained_share", 1 - _share(everything, "unexplained")),
            Figure("rules_that_stand", len(everything.rules)),
            Figure("lift_of_the_first_rule", everything.rules[0].lift if everything.rules else None),
        ],
    )


def _service(tail: Tail) -> str:
    known = [
        f"p{quantile.q * 100:g} {_s(quantile.value_ms)} ({_s(quantile.low_ms)} to {_s(quantile.high_ms)})"
        for quantile in tail.quantiles
        if quantile.status == "known"
    ]
    failed = f", {tail.n_failed} failed" if tail.n_failed else ""
    return f"{tail.group}: n {tail.n}{failed}; {', '.join(known) or 'no answered latency reaches its median'}"


def _lines(tail: TailCauses) -> list[str]:
    labels = ", ".join(f"{label.words} {label.share:.0%}" for label in tail.labels if label.share >= 0.01)
    slowest = [
        f"{_s(call.latency_ms)} against {_s(call.expected_ms)} expected: {call.label.replace('_', ' ')}"
        for call in tail.slowest[:3]
    ]
    rules = [f"{rule.sentence} (lift {rule.lift:.0f}, {rule.n_tail} calls)" for rule in tail.rules]
    return [labels, *rules, *slowest]


def _share(tail: TailCauses, label: str) -> float:
    return next((one.share for one in tail.labels if one.label == label), 0.0)


def _s(ms: float | None) -> str:
    return "-" if ms is None else f"{ms / 1000:.2f} s"


if __name__ == "__main__":
    main()
