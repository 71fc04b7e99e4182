"""A rubric's settings: literal values, read from the template's syntax tree without running it.

Flow: the `{% set %}` lines of a file -> `read_settings` -> `RubricSettings`, or problems by line.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes

from rubrics.calls import AppliesTo
from rubrics.language import LEVELS, SENTENCE_CHARS_MAX, SETTINGS, VISIBLE

#: Called with a line and what is wrong there, and how to set it right.
Report = Callable[[int, str], None]


@dataclass(frozen=True)
class RubricSettings:
    """What a rubric file sets; see `Rubric` for what each is for."""

    question: str = ""
    levels: tuple[str, ...] = ()
    applies_to: AppliesTo = field(default_factory=AppliesTo)
    weight: float = 1.0
    reason_first: bool = False
    visible: tuple[str, ...] = ()


class NotLiteral(Exception):
    """A value that would have to be computed."""


def read_settings(assigns: Sequence[nodes.Assign], report: Report) -> RubricSettings:
    """Return the settings of one file; what is wrong with them goes to `report` and takes its default."""
    found: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for assign in assigns:
        name = assign.target.name if isinstance(assign.target, nodes.Name) else None
        if name not in SETTINGS:
            report(assign.lineno, f"a rubric sets only {_listed(SETTINGS)}; remove this set or rename it")
        elif name in lines:
            report(assign.lineno, f"{name} is set twice (first on line {lines[name]}); keep one")
        else:
            lines[name] = assign.lineno
            try:
                found[name] = _READERS[name](assign.node, report)
            except NotLiteral:
                report(
                    assign.lineno,
                    f"{name} must be written out as a literal; it is read without running the template",
                )
    for name, example in (("question", '"Is it true?"'), ("levels", "[... seven texts, worst first ...]")):
        if name not in lines:
            report(1, f"{name} is missing; add {{% set {name} = {example} %}}")
    return RubricSettings(**{name: value for name, value in found.items() if value is not None})


def _question(node: nodes.Node, report: Report) -> str | None:
    value = literal(node)
    if not isinstance(value, str):
        report(node.lineno, f"question is {_kind(value)}; give one text")
        return None
    return _sentence("question", value, node.lineno, report)


def _levels(node: nodes.Node, report: Report) -> tuple[str, ...] | None:
    if not isinstance(node, nodes.List | nodes.Tuple):
        report(node.lineno, f"levels is {_kind(literal(node))}; give a list of seven texts, worst first")
        return None
    if len(node.items) != LEVELS:
        report(
            node.lineno,
            f"levels has {len(node.items)} item{'' if len(node.items) == 1 else 's'}; "
            "describe exactly seven, worst first",
        )
    levels: list[str] = []
    seen: dict[str, int] = {}
    for position, item in enumerate(node.items, start=1):
        value = literal(item)
        if not isinstance(value, str):
            report(item.lineno, f"level {position} is {_kind(value)}; describe the situation in a text")
            continue
        level = _sentence(f"level {position}", value, item.lineno, report)
        if level and (same := seen.setdefault(level.casefold(), position)) != position:
            report(item.lineno, f"level {position} says the same as level {same}; describe what differs")
        levels.append(level)
    return tuple(levels)


def _applies_to(node: nodes.Node, report: Report) -> AppliesTo | None:
    value = literal(node)
    shape = 'write {"prompts": ["support-*"], "models": ["gpt-*"], "tags": {"tier": ["gold"]}}, any of them'
    if not isinstance(value, dict):
        report(node.lineno, f"applies_to is {_kind(value)}; {shape}")
        return None
    if unknown := [str(key) for key in value if key not in ("prompts", "models", "tags")]:
        report(node.lineno, f"applies_to does not know {_listed(unknown)}; {shape}")
        return None
    prompts, models = _patterns(value.get("prompts", [])), _patterns(value.get("models", []))
    tags = value.get("tags", {})
    named = (
        [(name, _patterns(patterns)) for name, patterns in tags.items()] if isinstance(tags, dict) else None
    )
    for key, read in (("prompts", prompts), ("models", models)):
        if read is None or (key in value and not read):
            report(node.lineno, f"applies_to {key} must be a list of texts with one at least; {shape}")
            return None
    if named is None or not all(isinstance(name, str) and patterns for name, patterns in named):
        report(node.lineno, f"applies_to tags must give each tag's name a list of texts; {shape}")
        return None
    return AppliesTo(prompts or (), models or (), tuple((name, patterns or ()) for name, patterns in named))


def _patterns(value: Any) -> tuple[str, ...] | None:
    """Return a list of texts, or one text, as a tuple; None for anything else."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        return None
    return tuple(value)


def _weight(node: nodes.Node, report: Report) -> float | None:
    value = literal(node)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= 1
        or math.isnan(value)
    ):
        report(node.lineno, f"weight is {value!r}; give a number above 0 and up to 1, which is full weight")
        return None
    return float(value)


def _reason_first(node: nodes.Node, report: Report) -> bool | None:
    value = literal(node)
    if not isinstance(value, bool):
        report(node.lineno, f"reason_first is {_kind(value)}; write true or false")
        return None
    return value


def _visible(node: nodes.Node, report: Report) -> tuple[str, ...] | None:
    value = literal(node)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        report(
            node.lineno, f"visible is not a list of texts; take some of {_listed(VISIBLE)}, or leave it out"
        )
        return None
    if unknown := [item for item in value if item not in VISIBLE]:
        report(
            node.lineno, f"visible names {_listed(unknown)}, which no guard can see; take {_listed(VISIBLE)}"
        )
        return None
    return tuple(dict.fromkeys(value))


_READERS: dict[str, Callable[[nodes.Node, Report], Any]] = {
    "question": _question,
    "levels": _levels,
    "applies_to": _applies_to,
    "weight": _weight,
    "reason_first": _reason_first,
    "visible": _visible,
}


def literal(node: nodes.Node) -> Any:
    """Return the value of a literal: text, number, true, false, none, list or dict of those.

    Jinja's own `as_const` would compute: 10**10**10 in a file would then hang whoever loads it.

    Raises:
        NotLiteral: the node is anything else.
    """
    match node:
        case nodes.Const():
            return node.value
        case nodes.Neg(node=nodes.Const(value=int() | float() as number)):
            return -number
        case nodes.List() | nodes.Tuple():
            return [literal(item) for item in node.items]
        case nodes.Dict():
            return {_key(pair.key): literal(pair.value) for pair in node.items}
    raise NotLiteral


def _key(node: nodes.Node) -> str:
    key = literal(node)
    if not isinstance(key, str):
        raise NotLiteral
    return key


def _sentence(name: str, value: str, line: int, report: Report) -> str:
    """Return a text on one line, so that a long one may be wrapped in the file."""
    text = " ".join(value.split())
    if not text:
        report(line, f"{name} is empty; say what the user meets")
    elif len(text) > SENTENCE_CHARS_MAX:
        report(line, f"{name} has {len(text):,} characters; say it in {SENTENCE_CHARS_MAX:,}")
    return text


def _kind(value: object) -> str:
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "a mapping" if isinstance(value, dict) else "empty")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
