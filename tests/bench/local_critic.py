"""Measures the local critic: planted failures, ranking, labels, cost. `make bench BENCH=local-critic`.

Everything is split by group, so no document is on both sides. Test plants use other phrases
(`tests.bench.plant_phrases`) and other documents than the plants that guards are fitted with; the shipped
guard was fitted on neither SummEval nor HaluEval (`tests.bench.fit_shipped_guard`). With --held-back DIR
every fit sees only --data and every figure is measured only on DIR.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from critic.local import LocalCritic, Texts, Ungraded, fit_guard
from critic.local.plants import KINDS, plant
from tests.bench.figures import Figure, options, report
from tests.bench.local_critic_people import label_figures, ranking_figures
from tests.bench.plant_phrases import TESTING
from tests.bench.rated_sets import Rated, halueval, hundredth, summeval

#: What is read of a data folder; looked for before anything is measured.
_FILES = ("summeval12/items.jsonl.gz", "summeval12/critics.jsonl.gz", "halueval_general/items.jsonl.gz")
#: Share of ordinary outputs that may be called failures where "caught" is counted.
FALSE_ALARMS = 0.05
#: The default of LOWLIGHT_BASE_RATE.
BASE_RATE = 0.02

#: (outputs of the team's own, AUROC goal, caught goal) with a source and without; the words of the goals
#: are those of the local critic's page.
_STAGES = {
    True: ((0, 0.97, None), (200, 0.97, 0.90), (1_000, 0.98, 0.95)),
    False: ((0, 0.85, None), (200, 0.90, 0.74), (1_000, 0.92, 0.80)),
}


@dataclass(frozen=True)
class _Part:
    """Outputs to fit on and outputs to measure on, no group in both."""

    fitting: list[Texts]
    testing: list[Texts]


@dataclass(frozen=True)
class _Caught:
    auroc: float
    caught: float
    by_kind: dict[str, float]
    kind_right: float
    fitted: int


def parts(rows: Sequence[Rated], held_back: Sequence[Rated] | None, wanted: int, seed: int) -> list[_Part]:
    """Return splits by group: 40 % for testing where the rest has `wanted` outputs, else five folds."""
    if held_back is not None:
        return [_Part(_drawn(rows, wanted, seed), [row.call for row in held_back])]
    width, starts = (40, (0, 30, 60)) if len(rows) * 0.6 >= wanted else (20, (0, 20, 40, 60, 80))
    found = []
    for low in starts:
        testing = [row for row in rows if low <= hundredth(f"{seed}:{row.group}") < low + width]
        groups = {row.group for row in testing}
        fitting = [row for row in rows if row.group not in groups]
        found.append(_Part(_drawn(fitting, wanted, seed), [row.call for row in testing]))
    return found


def _drawn(rows: Sequence[Rated], wanted: int, seed: int) -> list[Texts]:
    calls = [row.call for row in rows]
    return Random(seed).sample(calls, min(wanted, len(calls)))


def measure(part: _Part, seed: int) -> _Caught:
    """Fit on one part's outputs (none: the shipped guard); count what is caught of plants in the other's."""
    critic = LocalCritic(0.5, fit_guard(part.fitting, seed=seed) if part.fitting else None)
    each = max(10, min(120, len(part.testing) // 3))
    planted = plant(part.testing, seed=seed + 7_919, phrases=TESTING, each=each)
    readings = critic.read([*part.testing, *(one.call for one in planted)])
    scores = np.array([reading.p_fail for reading in readings])
    ordinary, broken = scores[: len(part.testing)], scores[len(part.testing) :]
    alarm = float(np.quantile(ordinary, 1.0 - FALSE_ALARMS))
    kinds = np.array([one.kind for one in planted])
    by_kind = {kind: float((broken[kinds == kind] > alarm).mean()) for kind in KINDS if (kinds == kind).any()}
    named = [reading.kind for reading in readings[len(part.testing) :]]
    auroc = float(roc_auc_score(np.repeat([0, 1], [len(ordinary), len(broken)]), scores))
    right = float(np.mean([one.kind == name for one, name in zip(planted, named, strict=True)]))
    return _Caught(auroc, float(np.mean(list(by_kind.values()))), by_kind, right, len(part.fitting))


def guard_figures(data: Path, held_back: Path | None, seed: int, quick: bool) -> list[Figure]:
    """Figure 1: planted failures, cold and after 200 and 1,000 of the team's own outputs."""
    figures = []
    print("Planted failures: caught at 5 % false alarms, by kind")
    print(f"{'':32}{'AUROC':>7}{'caught':>8}  " + "".join(f"{kind:>15}" for kind in KINDS))
    for with_source, read in ((True, summeval), (False, halueval)):
        rows, unseen = read(data), read(held_back) if held_back is not None else None
        where = "with_source" if with_source else "without_source"
        for own, auroc_goal, caught_goal in _STAGES[with_source]:
            stage = f"own_{own}" if own else "cold"
            splits = parts(rows, unseen, own, seed)
            splits = splits[:1] if quick else splits
            found = [measure(part, seed) for part in splits]
            auroc = float(np.mean([one.auroc for one in found]))
            caught = float(np.mean([one.caught for one in found]))
            by_kind = [float(np.mean([one.by_kind.get(kind, np.nan) for one in found])) for kind in KINDS]
            fitted = int(np.mean([one.fitted for one in found]))
            print(
                f"{where + ' ' + stage + f' ({fitted})':32}{auroc:7.3f}{caught:8.0%}  "
                + "".join(f"{share:15.0%}" for share in by_kind)
            )
            goal = f"at least {_short(auroc_goal)} {_where_words(with_source)}, {_stage_words(own)}"
            figures.append(Figure(f"auroc_{where}_{stage}", auroc, None, goal, auroc >= auroc_goal))
            words = None if caught_goal is None else f"{caught_goal:.0%} caught at 5 % false alarms"
            holds = caught_goal is None or caught >= caught_goal
            figures.append(Figure(f"caught_share_{where}_{stage}", caught, None, words, holds))
            if own == 1_000 and fitted < own:
                figures.append(Figure(f"outputs_there_were_{where}_{stage}", fitted))
            precision = caught * BASE_RATE / (caught * BASE_RATE + FALSE_ALARMS * (1.0 - BASE_RATE))
            if own == 200:
                figures.append(Figure(f"expected_precision_{where}_at_base_rate_{BASE_RATE}", precision))
                right = float(np.mean([one.kind_right for one in found]))
                figures.append(Figure(f"kind_right_share_{where}_{stage}", right))
    return figures


def _short(value: float) -> str:
    return f"{value:.2f}".lstrip("0")


def _where_words(with_source: bool) -> str:
    return "with a source" if with_source else "without"


def _stage_words(own: int) -> str:
    return "cold start without key or label" if own == 0 else f"after {own:,} of the team's own outputs"


def ungraded_figure(data: Path) -> Figure:
    """Figure 2's other half: open chat without a source gets no level from this critic."""
    critic = LocalCritic(BASE_RATE)
    readings = critic.read([row.call for row in halueval(data)[:500]])
    withheld = [
        isinstance(critic.grade(reading, visible), Ungraded)
        for reading in readings
        for visible in ((), ("grounding",), KINDS)
    ]
    share = float(np.mean(withheld))
    return Figure(
        "ungraded_share_chat_without_source", share, None, "sourceless chat: `ungraded`", share == 1.0
    )


def cost_figures(data: Path, seed: int) -> list[Figure]:
    """Figure 5: CPU a call in batches, memory of the critic's process, time of a refit."""
    critic = LocalCritic(BASE_RATE)
    cpu_ms = {}
    sets = {
        "with_source": [row.call for row in summeval(data)],
        "without_source": [row.call for row in halueval(data)],
    }
    for where, calls in sets.items():
        calls = Random(seed).sample(calls, min(1_000, len(calls)))
        started = time.process_time()
        for at in range(0, len(calls), 100):
            critic.read(calls[at : at + 100])
        cpu_ms[where] = (time.process_time() - started) / len(calls) * 1_000
    own = Random(seed).sample(sets["with_source"], min(1_000, len(sets["with_source"])))
    started = time.process_time()
    fit_guard(own, seed=seed)
    refit_s = time.process_time() - started
    mib = _critic_process_mb(data)
    return [
        *(
            Figure(
                f"cpu_ms_a_call_{where}", value, None, "at most 5 ms of CPU a call, in batches", value <= 5.0
            )
            for where, value in cpu_ms.items()
        ),
        Figure("critic_process_mb", mib, None, "critic process at most 250 MB", mib <= 250),
        Figure(
            f"refit_cpu_s_{len(own)}_outputs", refit_s, None, "refitting the guard under 10 s", refit_s < 10.0
        ),
    ]


def _critic_process_mb(data: Path) -> float:
    """Return the peak resident size of a process with the critic's worker imported that reads 1,000 calls."""
    program = (
        "import sys; import critic.process; from pathlib import Path; "
        "from critic.local import LocalCritic; from tests.bench.figures import peak_memory_mb; "
        "from tests.bench.rated_sets import halueval, summeval; "
        "data = Path(sys.argv[1]); "
        "calls = [row.call for read in (summeval, halueval) for row in read(data)[:500]]; "
        "LocalCritic(.02).read(calls); print(peak_memory_mb())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(data)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all five figures and report them."""
    parser = options("The local critic against planted failures and people.")
    parser.add_argument("--held-back", type=Path, help="measure on this folder's sets, fit on --data only")
    parser.add_argument("--quick", action="store_true", help="one split and two draws of everything")
    chosen = parser.parse_args(argv)
    for folder in filter(None, (chosen.data, chosen.held_back)):
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            parser.error(
                f"{folder} has no {missing[0]}; name a folder that has it with --data or --held-back"
            )
    # One thread, as the critic's process has it beside a server.
    threadpool_limits(1)
    figures = [
        *guard_figures(chosen.data, chosen.held_back, chosen.seed, chosen.quick),
        *ranking_figures(chosen.held_back or chosen.data),
        ungraded_figure(chosen.held_back or chosen.data),
        *label_figures(chosen.data, chosen.held_back, chosen.seed, draws=2 if chosen.quick else 8),
        *cost_figures(chosen.data, chosen.seed),
    ]
    used_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    report("local-critic", [*figures, Figure("bench_cpu_s", used_s)])


if __name__ == "__main__":
    main()
