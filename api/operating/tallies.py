"""Counters that cost next to nothing to add to, for what every request passes.

Flow: one thread adds, `Tally.add` and `Spread.observe` -> /metrics, from another thread, reads -> families of
prometheus_client. The library's own take a lock for each number, and several calls; they were a twentieth of
what a request of one call costs. Here one thread alone writes each of them, so that none needs a lock; a
reader may see a sum that lacks the very last observation.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Tally:
    """A counter by labels."""

    def __init__(self, name: str, words: str, labels: Sequence[str] = ()) -> None:
        self._name, self._words, self._labels = name, words, tuple(labels)
        self._counts: dict[tuple[str, ...], int] = {} if self._labels else {(): 0}

    def add(self, n: int, *values: str) -> None:
        """Add `n` under these values of the labels."""
        self._counts[values] = self._counts.get(values, 0) + n

    def family(self) -> CounterMetricFamily:
        """Return it as it stands."""
        family = CounterMetricFamily(self._name, self._words, labels=self._labels)
        for values, n in sorted(self._counts.items()):
            family.add_metric(values, n)
        return family


class Spread:
    """A histogram by labels, in buckets with fixed upper bounds."""

    def __init__(self, name: str, words: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self._name, self._words, self._labels = name, words, tuple(labels)
        self._bounds = tuple(bounds)
        self._observed: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        if not self._labels:
            self._observed[()] = self._empty()

    def _empty(self) -> tuple[list[int], list[float]]:
        return [0] * (len(self._bounds) + 1), [0.0]

    def observe(self, value: float, *values: str) -> None:
        """Count one value under these values of the labels."""
        found = self._observed.get(values)
        if found is None:
            found = self._observed[values] = self._empty()
        counts, total = found
        counts[bisect_left(self._bounds, value)] += 1
        total[0] += value

    def family(self) -> HistogramMetricFamily:
        """Return it as it stands; each bucket counts what is at most its bound, as Prometheus wants it."""
        family = HistogramMetricFamily(self._name, self._words, labels=self._labels)
        for values, (counts, total) in sorted(self._observed.items()):
            at_most, buckets = 0, []
            for bound, n in zip((*map(str, self._bounds), "+Inf"), list(counts), strict=True):
                at_most += n
                buckets.append((bound, at_most))
            family.add_metric(values, buckets, total[0])
        return family


class Tallies(Collector):
    """Several of these, for a registry."""

    def __init__(self, *counted: Tally | Spread) -> None:
        self._counted = counted

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """Yield each as it stands."""
        for one in self._counted:
            yield one.family()
