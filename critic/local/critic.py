"""The critic that needs no key, no hub and no GPU: what it sees in a call, and how it answers a rubric.

Flow: Texts -> LocalCritic.read -> Reading (a `guard_reading` row) -> LocalCritic.grade -> a score row,
or `ungraded` with its reason. No model reads the text: a level from here is a stated convention over
visible failures and grounding until labels calibrate it, and without a source there is none.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import NormalDist
from typing import Any

import numpy as np

from critic.local.features import Features
from critic.local.grounding import GroundingTable, signals_of
from critic.local.guard import BadFit, GuardModel, fit_guard_model
from critic.local.plants import KINDS
from critic.local.texts import Texts

#: The version of features, kinds and conventions; the kind of fit follows it in `LocalCritic.version`.
VERSION = "local:guard+grounding 1"
#: In a rubric's `visible`: answer by how closely the output keeps to its source.
GROUNDING = "grounding"
#: Why a call without a source gets no level (docs/decisions/0008).
WITHOUT_SOURCE = (
    "without a source or labels a level would be a guess; failures that show are reported beside it"
)
#: Least outputs with a source for quantile tables of a team's own.
OWN_SOURCES_MIN = 50

#: How the mass of a visible failure falls on levels 1 and 2.
_FAILED = (0.6, 0.4)
#: Where nothing failed visibly: around the middle level of 1..7, this wide, in levels.
_MIDDLE = 4.0
_WIDTH = 1.1
#: Rank correlation assumed between grounding and a person's level: what was measured label-free on four
#: public sets lies between .32 and .65; a low one keeps the answer modest.
_GROUNDING_RHO = 0.4

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Reading:
    """What the guard saw in one call.

    Attributes:
        p_fail: probability of a failure that can be seen, at the base rate; None where no output was sent.
        kind: the likeliest kind of `KINDS`; None with `p_fail`.
        kinds: probability by kind; they sum to `p_fail`.
        grounding: quantile of the grounding score in this team's own traffic (before 50 outputs with a
            source: in the shipped sets), 0..1; None without a source.
        input_language, output_language: ISO 639-1, None where too short to tell.
        why: features' shares of what spoke for `kind`, largest first.
    """

    p_fail: float | None
    kind: str | None
    kinds: dict[str, float] | None
    grounding: float | None
    input_language: str | None
    output_language: str | None
    why: dict[str, float]


@dataclass(frozen=True)
class Grade:
    """An answer to a rubric: probabilities of the levels 1..7, which sum to 1, and what they rest on."""

    probabilities: tuple[float, ...]
    why: dict[str, float]

    @property
    def score(self) -> float:
        """Return 1 + the sum of i * p_i over positions i = 0..6."""
        return 1.0 + sum(at * share for at, share in enumerate(self.probabilities))


@dataclass(frozen=True)
class Ungraded:
    """This critic cannot judge such a call; `reason` says why, in words a page can show."""

    reason: str


class LocalCritic:
    """Reads calls with a fitted guard and grades them where a rubric's `visible` allows it."""

    def __init__(self, base_rate: float, fit: dict[str, Any] | None = None) -> None:
        """Take a fit.

        Args:
            base_rate: expected share of outputs with a visible failure, 0..1 (`LOWLIGHT_BASE_RATE`).
            fit: what `fit_guard` returned; None for the one that ships. One that this version cannot
                read is passed over for the shipped one, and `version` then says "shipped".
        """
        if not 0.0 < base_rate < 1.0:
            raise ValueError(f"base_rate is {base_rate}; it must lie between 0 and 1")
        self.base_rate = base_rate
        own = fit
        if own is not None:
            try:
                self._guard = GuardModel.from_json(own["guard"])
            except (BadFit, KeyError):
                own = None
        stored = own if own is not None else shipped_fit()
        if own is None:
            self._guard = GuardModel.from_json(stored["guard"])
        self._table = GroundingTable.from_json(stored["grounding"])
        self.version = f"{VERSION} {'shipped' if own is None else 'own ' + str(stored['n'])}"

    def read(self, calls: Sequence[Texts]) -> list[Reading]:
        """Return one reading a call; about 1 ms each. Never raises for what a text holds."""
        if not calls:
            return []
        features = Features(calls)
        empty = np.array([not _visible(call.output) for call in calls])
        by_kind = self._guard.kinds(features, empty, self.base_rate)
        grounding = self._grounding(features)
        readings = []
        for row, call in enumerate(calls):
            languages = features.input_languages[row], features.output_languages[row]
            if call.output is None:
                readings.append(Reading(None, None, None, None, *languages, {}))
                continue
            kinds = {kind: float(value) for kind, value in zip(KINDS, by_kind[row], strict=True)}
            kind = max(kinds, key=lambda name: kinds[name])
            why = self._guard.why(features, row, kind)
            readings.append(
                Reading(min(1.0, sum(kinds.values())), kind, kinds, grounding[row], *languages, why)
            )
        return readings

    def _grounding(self, features: Features) -> list[float | None]:
        rows = np.flatnonzero(features.has_source)
        found: list[float | None] = [None] * len(features.overlaps)
        if len(rows):
            values = signals_of([overlap for overlap in features.overlaps if overlap is not None])
            for row, value in zip(rows, self._table.quantiles(values), strict=True):
                found[row] = float(value)
        return found

    def grade(self, reading: Reading, visible: Sequence[str]) -> Grade | Ungraded:
        """Answer a rubric by what can be seen, or say why not.

        Without a source every level is withheld: the reading itself says which failure shows. An empty
        output is the exception, under a rubric that names it: there is nothing that would have to be read.
        With a source the probability of the rubric's visible kinds is the mass on levels 1 and 2. The rest
        lies around the level that the grounding quantile stands for where the rubric names "grounding",
        else around the middle.

        Args:
            reading: of the call.
            visible: the rubric's, kinds of `KINDS` and "grounding"; unknown names are passed over.
        """
        kinds = [kind for kind in KINDS if kind in visible]
        if not kinds and GROUNDING not in visible:
            return Ungraded("no model read the text")
        if reading.p_fail is None or reading.kinds is None:
            return Ungraded("no output was sent with this call")
        if reading.kind == "empty":
            if "empty" not in kinds:
                return Ungraded("the output is empty: there is nothing to judge")
        elif reading.grounding is None:
            return Ungraded(WITHOUT_SOURCE)
        grounding = reading.grounding if GROUNDING in visible else None
        failed = min(1.0, sum(reading.kinds[kind] for kind in kinds))
        rest = _around_middle() if grounding is None else _around_quantile(grounding, self.base_rate)
        mass = [(1.0 - failed) * share for share in rest]
        for level, share in enumerate(_FAILED):
            mass[level] += failed * share
        total = math.fsum(mass)
        why = {kind: round(reading.kinds[kind], 6) for kind in kinds}
        if grounding is not None:
            why[GROUNDING] = round(grounding, 4)
        return Grade(tuple(value / total for value in mass), why)


def fit_guard(own: Sequence[Texts], *, seed: int = 0) -> dict[str, Any]:
    """Fit the guard and the grounding tables on a team's own recent outputs, without a label.

    Failures are planted in them; the shipped head is the prior. Below 50 outputs of a sort (with a
    source, without one) that part stays as shipped. Seconds for 1,000 outputs.

    Returns:
        JSON-able numbers for `LocalCritic(fit=...)`; no text of any call is in it.
    """
    shipped = shipped_fit()
    model = fit_guard_model(own, GuardModel.from_json(shipped["guard"]), seed=seed)
    overlaps = [one for one in Features([call for call in own if _visible(call.output)]).overlaps if one]
    table = (
        GroundingTable.of(signals_of(overlaps)).to_json()
        if len(overlaps) >= OWN_SOURCES_MIN
        else shipped["grounding"]
    )
    return {"version": VERSION, "n": len(own), "guard": model.to_json(), "grounding": table}


def shipped_fit() -> dict[str, Any]:
    """Return the fit that comes with Lowlight (`python -m tests.bench.fit_shipped_guard` makes it)."""
    text = resources.files("critic.local").joinpath("shipped_guard.json").read_text("utf-8")
    fit: dict[str, Any] = json.loads(text)
    return fit


def _visible(output: str | None) -> bool:
    return any(character.isprintable() and not character.isspace() for character in output or "")


def _around_middle() -> list[float]:
    """Return the default where nothing failed: levels 3..7 around the middle, none on 1 and 2."""
    spread = [
        0.0 if level < 3 else math.exp(-(((level - _MIDDLE) / _WIDTH) ** 2) / 2) for level in range(1, 8)
    ]
    return [share / sum(spread) for share in spread]


def _around_quantile(quantile: float, base_rate: float) -> list[float]:
    """Return the levels that a grounding quantile stands for.

    A person's level and the quantile are taken as two normal variables with correlation
    `_GROUNDING_RHO`; over all calls the levels fall as by default, with `base_rate` on levels 1 and 2.
    So the worst grounded call is several times as likely to be bad as another, and still not certain.
    """
    overall = [(1.0 - base_rate) * share for share in _around_middle()]
    overall[0], overall[1] = base_rate * _FAILED[0], base_rate * _FAILED[1]
    latent = _NORMAL.inv_cdf(min(max(quantile, 0.005), 0.995))
    spread = math.sqrt(1.0 - _GROUNDING_RHO**2)
    below, upto, shares = 0.0, 0.0, []
    for share in overall[:-1]:
        upto += share
        cut = (_NORMAL.inv_cdf(upto) - _GROUNDING_RHO * latent) / spread
        shares.append(_NORMAL.cdf(cut) - below)
        below = _NORMAL.cdf(cut)
    return [*shares, 1.0 - below]
