"""Figures for Prometheus: what was taken in and answered, how the writer does, how far the rest is.

Flow: routes, gate and writer count here as they go; `Watched` reads what is a state when /metrics is asked ->
`Metrics.text`. Labels are routes, statuses, critics and reasons from fixed lists: never a user, a project's
own words or an id. Durations are seconds, as Prometheus wants them.
"""

import platform
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.door.drops import ClientDrops
from api.operating.readiness import Running
from api.operating.tallies import Spread, Tallies, Tally
from api.schema import newest_revision
from dashboards.queries.backlog import Backlog, ScoresDone, backlog
from ingest.disk import disk_of
from ingest.store import OpenStore, sqlite_path
from ingest.writer import WAITING_MAX, Group

#: What `Metrics.text` is, for the Content-Type.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0)
_GROUP_JOBS = (1, 2, 4, 8, 16, 32, 64)
_STATUSES = {status: str(status) for status in (200, 400, 404, 413, 422, 503)}


class Metrics:
    """The counters, in a registry of their own.

    `request` and `items` are for the event loop alone, `group` for the writer's thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Spread(
            "lowlight_request_seconds",
            "Time to answer, by route.",
            _REQUEST_S,
            ("method", "route", "status"),
        )
        self._items = {
            kind: Tally(f"lowlight_{kind}", words, ("result",))
            for kind, words in (
                ("calls", "Calls sent to POST /v1/calls."),
                ("signals", "Signals sent to POST /v1/signals."),
                ("labels", "Labels sent to POST /v1/labels."),
                ("otlp_spans", "Spans sent over OTLP; each call is made of one or more."),
                ("otlp_log_records", "Log records sent over OTLP."),
            )
        }
        for tally in self._items.values():
            for result in ("accepted", "duplicate", "rejected"):
                tally.add(0, result)
        self._commits = Spread(
            "lowlight_commit_seconds",
            "Time of one group of writes, from its first job to the end of the commit.",
            _COMMIT_S,
        )
        self._group_jobs = Spread("lowlight_commit_jobs", "Writes in one commit.", _GROUP_JOBS)
        self._refused = Tally(
            "lowlight_commits_refused",
            "Groups of writes that the database did not take: locked, full, lost.",
        )
        self.registry.register(
            Tallies(self._requests, *self._items.values(), self._commits, self._group_jobs, self._refused)
        )

    def request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one answered request; `route` is the route's template and never the path that was asked."""
        self._requests.observe(took_s, method, route, _STATUSES.get(status) or str(status))

    def items(self, kind: str, accepted: int, duplicates: int, rejected: int) -> None:
        """Count what became of the items of one request."""
        tally = self._items[kind]
        for result, n in (("accepted", accepted), ("duplicate", duplicates), ("rejected", rejected)):
            if n:
                tally.add(n, result)

    def group(self, group: Group) -> None:
        """Count one group of the writer; see `ingest.writer.Writer.observe`."""
        if group.refused is not None:
            self._refused.add(1)
            return
        self._commits.observe(group.took_s)
        self._group_jobs.observe(group.jobs)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class Watched(Collector):
    """What is a state and not a count: read when /metrics is asked, in a few milliseconds."""

    def __init__(self, store: OpenStore, children: Mapping[str, Running], drops: ClientDrops) -> None:
        self._store = store
        self._children = children
        self._drops = drops
        self._scores = ScoresDone()
        self._turn = threading.Lock()
        self._about = {
            "version": version("lowlight-server"),
            "schema": newest_revision(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        }

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing ahead of time: names are known from `collect`."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily]:
        """Yield the figures of now; those of the database are left out where it cannot be read."""
        yield InfoMetricFamily("lowlight_build", "What runs here.", self._about)
        yield from self._of_the_process()
        try:
            with self._store.read() as connection:
                found = backlog(connection, time.time_ns() // 1_000_000)
                with self._turn:
                    self._scores.count(connection)
        except SQLAlchemyError:
            yield _gauge("lowlight_database_readable", "Whether the database answers.", 0)
            return
        yield _gauge("lowlight_database_readable", "Whether the database answers.", 1)
        yield from _of_the_database(found)
        done = CounterMetricFamily(
            "lowlight_scores", "Answers of critics since the server started.", labels=("critic", "status")
        )
        for (critic, status), n in sorted(self._scores.counts.items()):
            done.add_metric((critic, status), n)
        yield done

    def _of_the_process(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        writer = self._store.writer
        yield _gauge("lowlight_writer_waiting", "Writes that wait.", writer.waiting)
        yield _gauge("lowlight_writer_waiting_max", "Writes that may wait; more get 503.", WAITING_MAX)
        yield _gauge("lowlight_writer_in_hand_seconds", "Age of the commit in hand.", writer.in_hand_s)
        yield _gauge(
            "lowlight_writer_failing",
            "1 while the database does not take what is written.",
            int(writer.last_failure is not None or not writer.alive),
        )
        up = GaugeMetricFamily("lowlight_child_up", "Whether a child process runs.", labels=("child",))
        for name, child in self._children.items():
            up.add_metric((name,), int(child.alive))
        yield up
        drops = CounterMetricFamily(
            "lowlight_client_dropped", "Items that SDKs say they had to drop.", labels=("reason",)
        )
        for reason, n in self._drops.counts().items():
            drops.add_metric((reason,), n)
        yield drops
        path = sqlite_path(self._store.database_url)
        if path is not None:
            disk = disk_of(path)
            yield _gauge("lowlight_disk_free_bytes", "Free where the database lies.", disk.free_bytes)
            yield _gauge("lowlight_database_bytes", "Size of the database file.", disk.database_bytes)
            yield _gauge("lowlight_wal_bytes", "Size of its write-ahead log.", disk.wal_bytes)


def _of_the_database(found: Backlog) -> Iterator[GaugeMetricFamily]:
    words = f"{{}}; counting stops at {found.count_max}."
    yield _gauge(
        "lowlight_calls_waiting", words.format("Calls that no critic has taken up"), found.calls_waiting
    )
    yield _gauge(
        "lowlight_answers_waiting", words.format("Answers being asked for, or again"), found.answers_waiting
    )
    yield _gauge("lowlight_queue_age_seconds", "Age of the oldest call not taken up.", found.oldest_s)
    yield _gauge(
        "lowlight_otlp_open", words.format("Spans and logs of calls not closed yet"), found.otlp_open
    )
    yield _gauge("lowlight_outliers_behind", "Calls kept and not ranked yet.", found.unranked)
    if found.ranked_age_s is not None:
        yield _gauge(
            "lowlight_outliers_age_seconds", "Time since the worst were last computed.", found.ranked_age_s
        )
    paused = GaugeMetricFamily(
        "lowlight_critic_paused", "1 while a critic takes no work; /readyz says why.", labels=("critic",)
    )
    for critic in found.paused:
        paused.add_metric((critic,), 1)
    yield paused


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)


def metrics_of(store: OpenStore, children: Mapping[str, Running], drops: ClientDrops) -> Metrics:
    """Return the metrics of a server; the writer counts into them from now on."""
    metrics = Metrics()
    metrics.registry.register(Watched(store, children, drops))
    ProcessCollector(registry=metrics.registry)
    store.writer.observe = metrics.group
    return metrics
