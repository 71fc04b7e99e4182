"""What sets a tail apart, as rules: a shallow tree over calls' fields, tested on people it did not see.

Flow: outliers.frame.WeekCalls + which calls are slow -> `tail_rules` -> outliers.causes.tail_causes.

A decision tree of depth 3 (scikit-learn) is grown on one half of the people. Each leaf where slow calls
gather is a rule; its thresholds are rounded to numbers a person would say, and parts that hardly matter are
dropped. The other half tests it (Fisher's exact test, a person counted once inside and once outside); then
the halves change places. Rules that hold for nearly the same calls are one; false discoveries are held at
10 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outliers.cohorts.axes import roundness, spoken_numbers
from outliers.cohorts.candidates import holds
from outliers.conditions import Condition
from outliers.frame import Floats, Ints, Mask, WeekCalls
from outliers.intervals import discoveries, g_statistic, hypergeometric_tail

DEPTH = 3
#: Slow calls in a leaf at least, and other calls that a tree is grown on at most.
SLOW_MIN = 4
GROWN_ON_MAX = 30_000
#: Values of a field that are tried, the most frequent ones, and calls of a value at least.
VALUES_MAX, VALUE_CALLS = 40, 20
NUMBERS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "context_chars",
    "input_chars",
    "output_chars",
    "retries",
    "user_age_days",
)
NAMED = ("prompt_version", "prompt", "model", "provider", "release", "input_language", "environment")
#: In the other half a rule must be at least so many times as frequent in the tail as in the rest.
LIFT_MIN = 2.0
#: A part of a rule is kept where G falls by at least this much without it.
PART_WORTH = 10.0
JACCARD_MAX = 0.5
FALSE_DISCOVERIES = 0.1
RULES_MAX = 6
#: A threshold may be moved by this share of its size to be easier to say.
ROUNDING = 0.1


@dataclass(frozen=True)
class Rule:
    """One rule of a tail.

    Attributes:
        mask: calls it holds for, shape (n,).
        n: those among the calls looked at, of which `n_tail` are slow.
        share_in, share_out: share of the slow calls, and of the rest, for which it holds.
        lift: share_in / share_out.
        held_back_lift: the same in the half that did not find it.
        p_value: in that half.
    """

    condition: Condition
    mask: Mask
    n: int
    n_tail: int
    share_in: float
    share_out: float
    lift: float
    held_back_lift: float
    p_value: float


def tail_rules(calls: WeekCalls, slow: Mask, among: Mask) -> list[Rule]:
    """Return what sets slow calls apart, the rule that explains most first; empty where nothing does."""
    found: list[Rule] = []
    for grown in (~calls.held_back, calls.held_back):
        conditions = _grown(calls, slow, among & grown)
        found += [_tested(calls, slow, among, among & ~grown, condition) for condition in conditions]
    found = [rule for rule in found if rule.p_value < 1 and rule.held_back_lift >= LIFT_MIN]
    merged: list[Rule] = []
    for rule in sorted(found, key=lambda one: -_worth(slow, among, one.mask)):
        if all(_jaccard(rule.mask & among, other.mask & among) <= JACCARD_MAX for other in merged):
            merged.append(rule)
    # a rule that both trees grew was tested twice
    stands = discoveries([min(1.0, 2 * rule.p_value) for rule in merged], FALSE_DISCOVERIES)
    return [rule for rule, stood in zip(merged, stands, strict=True) if stood][:RULES_MAX]


def _grown(calls: WeekCalls, slow: Mask, among: Mask) -> list[Condition]:
    """Return the conditions of the leaves in which slow calls gather, simplified, none twice."""
    from sklearn.tree import DecisionTreeClassifier

    at = np.nonzero(among)[0]
    y = slow[at]
    if y.sum() < 2 * SLOW_MIN or y.all():
        return []
    at, weight = _sampled(at, y)
    y = slow[at]
    table, tests = _columns(calls, at)
    if not tests:
        return []
    weight = weight * np.where(y, 0.5 / (weight * y).sum(), 0.5 / (weight * ~y).sum())
    tree = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=SLOW_MIN, random_state=0)
    tree.fit(table, y, sample_weight=weight)
    found: list[Condition] = []
    for parts in _paths(calls, tree.tree_, tests):
        kept = _simplified(calls, slow, among, parts)
        if kept and (condition := Condition.all_of(kept)) not in found:
            found.append(condition)
    return found


def _sampled(at: Ints, y: Mask) -> tuple[Ints, Floats]:
    """Return all slow calls and at most `GROWN_ON_MAX` others, with what each stands for."""
    others = at[~y]
    step = max(1, -(-len(others) // GROWN_ON_MAX))
    taken = others[::step]
    kept = np.concatenate([at[y], taken])
    return kept, np.concatenate(
        [np.ones(int(y.sum())), np.full(len(taken), len(others) / max(1, len(taken)))]
    )


def _columns(calls: WeekCalls, at: Ints) -> tuple[Floats, list[tuple[str, str, str]]]:
    """Return a table of numbers and of 0 or 1 for names, and what each column tells: (field, key, value)."""
    columns, tests = [], []
    for name in NUMBERS:
        values = calls.numbers.get(name)
        if values is not None and np.isfinite(values[at]).any():
            # beyond all numbers a tree can hold: users who came long before
            columns.append(np.where(np.isinf(values[at]), 1e12, values[at]))
            tests.append((name, "", ""))
    for field, key in [(name, "") for name in NAMED] + sorted(
        k for k in calls.named if k[0] in ("tag", "tool")
    ):
        column = calls.named.get((field, key))
        if column is None:
            continue
        codes = column.codes[at]
        n = np.bincount(codes[codes >= 0], minlength=len(column.names))
        for place in np.argsort(-n, kind="stable")[:VALUES_MAX].tolist():
            if VALUE_CALLS <= n[place] < len(at):
                columns.append((codes == place).astype(np.float64))
                tests.append((field, "" if field == "tool" else key, column.names[place]))
    return (np.column_stack(columns) if columns else np.empty((len(at), 0))), tests


def _paths(calls: WeekCalls, tree: Any, tests: Sequence[tuple[str, str, str]]) -> list[list[Condition]]:
    """Return, for each leaf where most of the weight is slow, the tests on the way to it."""
    found: list[list[Condition]] = []
    open_nodes: list[tuple[int, dict[tuple[str, str, str], Condition]]] = [(0, {})]
    while open_nodes:
        node, parts = open_nodes.pop()
        if tree.children_left[node] < 0:
            if parts and tree.value[node][0][1] > 0.5:
                found.append(list(parts.values()))
            continue
        field, key, value = tests[tree.feature[node]]
        threshold = float(tree.threshold[node])
        if field in NUMBERS and not np.isfinite(threshold):
            # the tree asks whether the number is known at all: those that are go left
            least = np.nanmin(calls.numbers[field])
            known = Condition(field, ">", float(np.floor(least)) - 1)
            open_nodes.append((int(tree.children_left[node]), parts | {(field, ">", ""): known}))
            open_nodes.append((int(tree.children_right[node]), parts))
        elif field in NUMBERS:
            below, above = Condition(field, "<", threshold), Condition(field, ">", threshold)
            # deeper tests of the same side are the tighter ones
            open_nodes.append((int(tree.children_left[node]), parts | {(field, "<", ""): below}))
            open_nodes.append((int(tree.children_right[node]), parts | {(field, ">", ""): above}))
        else:
            named = Condition(field, "=", value, key)
            # "is not that value" is no condition a person would say: what else holds there must do
            open_nodes.append((int(tree.children_left[node]), parts))
            open_nodes.append((int(tree.children_right[node]), parts | {(field, "=", value): named}))
    return found


def _simplified(calls: WeekCalls, slow: Mask, among: Mask, parts: Sequence[Condition]) -> list[Condition]:
    """Return the parts with thresholds that can be said, less those that hardly matter."""
    kept = [_spoken(calls, among, part) for part in parts]
    while len(kept) > 1:
        whole = _worth(slow, among, holds(Condition.all_of(kept), calls))
        without = [
            _worth(slow, among, holds(Condition.all_of(kept[:i] + kept[i + 1 :]), calls))
            for i in range(len(kept))
        ]
        best = int(np.argmax(without))
        if without[best] < whole - PART_WORTH:
            break
        kept.pop(best)
    return kept if _worth(slow, among, holds(Condition.all_of(kept), calls)) > PART_WORTH else []


def _spoken(calls: WeekCalls, among: Mask, part: Condition) -> Condition:
    """Return a threshold as a person would say it, where one lies near enough."""
    if not isinstance(part.value, float):
        return part
    value = part.value
    if value < 1:
        return Condition(part.field, part.op, round(value, 2))
    whole = float(np.floor(value)) if part.op == ">" else float(np.ceil(value))
    near = spoken_numbers(value * (1 - ROUNDING), value * (1 + ROUNDING))
    values = calls.numbers[part.field][among]
    n = max(1, int(np.isfinite(values).sum()))
    said = [
        float(number)
        for number in near
        # no more than one call in two hundred may change sides
        if ((values > min(number, value)) & (values <= max(number, value))).sum() <= n / 200
    ]
    best = min(said, key=lambda number: (roundness(number), abs(number - value)), default=whole)
    return Condition(part.field, part.op, best)


def _tested(calls: WeekCalls, slow: Mask, among: Mask, other: Mask, condition: Condition) -> Rule:
    mask = holds(condition, calls)
    n_tail = int((mask & among & slow).sum())
    share_in, share_out = _shares(mask, slow, among)
    held_in, held_out = _shares(mask, slow, other)
    inside, outside = _slow_people(calls, slow, other & mask), _slow_people(calls, slow, other & ~mask)
    n_people = len(inside) + len(outside)
    # sums of shares of slow calls, rounded to the silent side
    bad_in = int(np.floor(inside.sum() + 1e-9))
    bad = min(n_people, bad_in + int(np.ceil(outside.sum() - 1e-9)))
    tested = len(inside) and len(outside)
    return Rule(
        condition=condition,
        mask=mask,
        n=int((mask & among).sum()),
        n_tail=n_tail,
        share_in=share_in,
        share_out=share_out,
        lift=share_in / max(share_out, 1 / max(1, int((among & ~slow).sum()))),
        held_back_lift=held_in / max(held_out, 1 / max(1, int((other & ~slow).sum()))),
        p_value=hypergeometric_tail(bad_in, len(inside), bad, n_people) if tested else 1.0,
    )


def _shares(mask: Mask, slow: Mask, among: Mask) -> tuple[float, float]:
    inside, rest = among & slow, among & ~slow
    return (
        float(mask[inside].mean()) if inside.any() else 0.0,
        float(mask[rest].mean()) if rest.any() else 0.0,
    )


def _slow_people(calls: WeekCalls, slow: Mask, among: Mask) -> Floats:
    """Return the share of slow calls of each person with a call among these."""
    people = calls.people[among]
    n = np.bincount(people)
    sums = np.bincount(people, weights=slow[among].astype(np.float64))
    return np.asarray(sums[n > 0] / n[n > 0])


def _worth(slow: Mask, among: Mask, mask: Mask) -> float:
    inside = mask & among
    return float(
        g_statistic(
            np.array([float((inside & slow).sum())]),
            np.array([float(inside.sum())]),
            float((among & slow).sum()),
            float(among.sum()),
        )[0]
    )


def _jaccard(one: Mask, other: Mask) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0
