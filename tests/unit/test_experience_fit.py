"""Weights fitted to thumbs: found again where they were planted, kept as shipped where thumbs say nothing."""

import json
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select, update

from api.cli.experience import command
from critic.tables import GuardReading
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Signal, columns
from outliers.experience.fit import Thumbed, TooFewThumbs, auc, fit, p_down, weights_in_use
from outliers.experience.parts import WEIGHTS
from outliers.experience.refresh import refresh_experience
from outliers.tables import Experience, Progress
from outliers.weekly import compute_weeks
from outliers.weeks import week_after, week_by_id
from tests.rows import HOUR_MS, put_calls, quiet_calls

EXPERIENCE = columns(Experience)


def thumbs(seed: int, weights: tuple[float, float, float], n: int = 6000, leak: float = 0.1) -> Thumbed:
    """Return calls with thumbs that follow these weights; the bad ones are likelier to get one."""
    source = np.random.default_rng(seed)
    b = np.where(source.random((n, 3)) < [0.2, 0.15, 0.05], source.uniform(0.4, 1, (n, 3)), 0.02)
    down = (source.random(n) < p_down(b, np.array(weights), leak)).astype(np.float64)
    votes = source.random(n) < 0.1 + 0.3 * (b[:, 0] > 0.3)
    people = source.integers(0, 400, n)
    about = source.normal(size=(n, 4))
    return Thumbed(b, np.where(votes, down, np.nan), people, about)


def test_planted_weights_are_found_again() -> None:
    found = fit(thumbs(1, (0.25, 0.8, 0.9), n=30_000))
    assert found.better
    assert found.weights["critic"] == pytest.approx(0.25, abs=0.1)
    assert found.weights["latency"] == pytest.approx(0.8, abs=0.1)
    assert found.weights["signals"] == WEIGHTS["signals"], "they are what is predicted"
    assert found.leak == pytest.approx(0.1, abs=0.04)
    assert found.fitted.auc > found.shipped.auc
    assert found.fitted.log_loss < found.shipped.log_loss
    for predicted, share in found.fitted.calibration:
        assert predicted == pytest.approx(share, abs=0.06)


def test_shipped_weights_stay_where_thumbs_say_nothing_new() -> None:
    """Thumbs that follow the shipped weights: a fit can be better by chance alone."""
    shipped = (WEIGHTS["critic"], WEIGHTS["latency"], WEIGHTS["error"])
    assert sum(fit(thumbs(seed, shipped, n=3000)).better for seed in range(8)) <= 1


def test_too_few_thumbs_are_told() -> None:
    with pytest.raises(TooFewThumbs, match=r"it takes 200 thumbs.*shipped weights stay"):
        fit(thumbs(1, (0.5, 0.5, 0.5), n=400))


def test_auc_counts_ties_half() -> None:
    p, down = np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.0, 1.0, 0.0, 1.0])
    assert auc(p, down, np.ones(4)) == pytest.approx(3.5 / 4)


def test_a_fit_is_kept_used_shown_and_reset(store: OpenStore, settings: Settings) -> None:
    """Slow calls hardly bother these users, and what the critic finds always does."""
    week = week_by_id("2026-W46", settings.zone)
    source = random.Random(2)
    calls = quiet_calls(source, week.since_ms, 4000, users=400)
    for call in calls:
        call["p_fail"] = 0.95 if source.random() < 0.2 else 0.01
        call["outcome"] = "failed" if source.random() < 0.1 else "answered"
        bad = 0.3 * call["p_fail"] + 0.05
        call["signals"] = (
            ("thumbs_down" if source.random() < bad else "thumbs_up",) if source.random() < 0.5 else ()
        )
    store.write(partial(put_calls, calls=calls))
    refresh_experience(store, settings)
    before = experiences(store)

    dry = said(settings, "fit", "--dry-run", "--json")
    assert (dry["better"], dry["kept"]) == (True, False)
    assert dry["weights"]["error"] < 0.3, "failures bother nobody here"
    assert said(settings, "show", "--json")["version"] == 0
    assert said(settings, "fit", "--json")["kept"]
    shown = said(settings, "show", "--json")
    assert shown["version"] == 1
    assert shown["weights"] == dry["weights"] != shown["shipped"]

    def reread(connection: Any) -> None:
        guard = columns(GuardReading)
        connection.execute(update(guard).values(changed=guard.c.changed + 10_000))

    store.write(reread)
    refresh_experience(store, settings)
    after = experiences(store)
    failed = [seq for seq, call in enumerate(calls, 1) if call["outcome"] == "failed" and not call["signals"]]
    assert np.mean([after[seq] for seq in failed]) < np.mean([before[seq] for seq in failed]) - 0.3

    assert said(settings, "reset", "--json")["weights"] == dict(WEIGHTS)
    with store.read() as connection:
        assert weights_in_use(connection, 1) == WEIGHTS


def experiences(store: OpenStore) -> dict[int, float]:
    with store.read() as connection:
        return dict(connection.execute(select(EXPERIENCE.c.call_seq, EXPERIENCE.c.p_bad)).all())


def said(settings: Settings, *words: str) -> dict[str, Any]:
    """Run `lowlight experience`, and return its JSON."""
    run = CliRunner().invoke(command, [*words, "--database-url", settings.database_url])
    assert run.exit_code == 0, f"{run.output} {run.exception!r}"
    shown: dict[str, Any] = json.loads(run.output)
    return shown


def test_a_call_whose_signal_a_late_one_took_over_is_ranked_again(
    store: OpenStore, settings: Settings
) -> None:
    """No critic reads here: nothing but the late call itself says that the old one has lost its signal."""
    week = week_by_id("2026-W46", settings.zone)
    at_ms = week.since_ms + HOUR_MS
    first = {"started_at_ms": at_ms, "session_id": "s", "user_id": "u"}
    store.write(partial(put_calls, calls=[first]))
    signal = {
        "project_id": 1,
        "id": "gave-up",
        "session_id": "s",
        "call_seq": 1,
        "kind": "thumbs_down",
        "at_ms": at_ms + 3000,
        "received_at_ms": at_ms + 3000,
    }
    store.write(lambda connection: connection.execute(insert(columns(Signal)), [signal]))
    refresh_experience(store, settings)
    assert experiences(store)[1] > 0.5
    # intake moves the signal in the job that keeps the late call (ingest.signal_writes)
    store.write(partial(put_calls, calls=[{**first, "started_at_ms": at_ms + 1000}]))
    store.write(lambda connection: connection.execute(update(columns(Signal)).values(call_seq=2)))
    refresh_experience(store, settings)
    ranked = experiences(store)
    assert ranked[2] > 0.5
    assert ranked[1] < 0.5


def test_a_late_score_of_last_week_renews_what_changed_in_this_one(
    store: OpenStore, settings: Settings
) -> None:
    week = week_by_id("2026-W45", settings.zone)
    after = week_after(week, settings.zone)
    source = random.Random(1)
    store.write(partial(put_calls, calls=quiet_calls(source, week.since_ms, 200)))
    store.write(partial(put_calls, calls=quiet_calls(source, after.since_ms, 200)))
    refresh_experience(store, settings)
    compute_weeks(store, settings, after.until_ms)
    compute_weeks(store, settings, after.until_ms)

    def reread(connection: Any) -> None:
        guard = columns(GuardReading)
        connection.execute(update(guard).where(guard.c.call_seq == 5).values(p_fail=0.9, changed=9_999))

    store.write(reread)
    refresh_experience(store, settings)
    with store.read() as connection:
        names = set(connection.execute(select(columns(Progress).c.name)).scalars())
    assert {name for name in names if name.startswith("week/")} == {f"week/1/{week.id}", f"week/1/{after.id}"}
