"""Fences: a call's text goes to a critic between marks that no text can close.

Flow: a field's items -> `cut_middle` (bounded, with an explicit gap) -> `fenced` -> the rendered view.

A fence is a random token drawn for one render, so the author of a text cannot know it. Should the text
hold it all the same (a view pasted back into the application), `escape` breaks it up, reversibly.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"x[0-9a-f]{8,64}")

#: What one item costs beyond its text: its two fence lines, labels included. Bounds the number of items.
ITEM_CHARS = 100


def new_fence() -> str:
    """Return a token of 64 random bits.

    It starts with the only `x` it has, so two occurrences never overlap, which `escape` relies on.
    """
    return f"x{secrets.token_hex(8)}"


def check_fence(fence: str) -> str:
    """Return `fence` if `new_fence` could have made it.

    Raises:
        ValueError: it could not.
    """
    if not _FENCE.fullmatch(fence):
        raise ValueError(f"{fence!r} is no fence; take one from rubrics.new_fence()")
    return fence


def escape(text: str, fence: str) -> str:
    """Return `text` without `fence` in it, upper case included: each occurrence gets a tilde inside.

    A token that has k tildes there gets k + 1, so `unescape` returns exactly `text`.
    """
    if fence[: len(fence) // 2] not in text.lower():  # nearly always: the fence was drawn after the text
        return text
    return _broken_up(fence, tildes="~*").sub(r"\1~\2\3", text)


def unescape(escaped: str, fence: str) -> str:
    """Return the text that `escape` was given."""
    return _broken_up(fence, tildes="~+").sub(lambda found: found[1] + found[2][1:] + found[3], escaped)


def _broken_up(fence: str, *, tildes: str) -> re.Pattern[str]:
    half = len(fence) // 2
    return re.compile(f"({fence[:half]})({tildes})({fence[half:]})", re.IGNORECASE)


def fenced(label: str, text: str, fence: str) -> str:
    """Return `text` between an opening and a closing mark that carry `label` (ours) and `fence`."""
    return f"<{label} {fence}>\n{escape(text, fence)}\n</{label} {fence}>"


@dataclass(frozen=True)
class Piece:
    """A part of one item that is shown: `item` counts from 0; a gap follows where `gap_chars` > 0."""

    item: int
    text: str
    gap_chars: int = 0


def cut_middle(texts: Sequence[str], chars_max: int) -> list[Piece]:
    """Return what is shown of `texts`, read as one sequence: everything, or its head and its tail.

    A beginning holds what was asked and an end what was asked last, so the middle goes: the gap may
    fall inside one text or swallow whole ones. The pieces cost at most `chars_max` characters, of which
    each takes `ITEM_CHARS` for its fence. `gap_chars` counts characters of the texts alone.
    """
    costs = [len(text) + ITEM_CHARS for text in texts]
    total = sum(costs)
    if total <= chars_max:
        return [Piece(item, text) for item, text in enumerate(texts)]
    half = chars_max // 2
    heads: list[Piece] = []
    tails: list[Piece] = []
    start = 0
    for item, (text, cost) in enumerate(zip(texts, costs, strict=True)):
        head_chars = min(half - start - ITEM_CHARS, len(text))
        tail_chars = min(start + cost - (total - half) - ITEM_CHARS, len(text))
        if head_chars >= 0:
            heads.append(Piece(item, text[:head_chars]))
        if tail_chars >= 0:
            tails.append(Piece(item, text[len(text) - tail_chars :]))
        start += cost
    gap_chars = sum(map(len, texts)) - sum(len(piece.text) for piece in heads + tails)
    if heads:
        heads[-1] = Piece(heads[-1].item, heads[-1].text, gap_chars)
    return heads + tails
