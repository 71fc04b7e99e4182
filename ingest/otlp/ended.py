"""Traces that came whole: their calls close at once, for nothing is left to wait for. Pure.

Flow: `ingest.otlp.telling` -> `told_whole` -> the rows of each call (`rows`) and its parts.

The root of a trace ends last. Where it comes in the same request as the calls beneath it, each call has its
texts, and nothing known before belongs to the trace or to one of its responses (`keeping` finds out), waiting
could change nothing. All other fragments wait for `ingest.otlp.closing`; a provider's package that writes
spans of its own, whose exporter may be another, makes its calls wait too.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from ingest.call_rows import BadText, NewCall
from ingest.otlp.assembling import Assembled, assemble, assemble_one
from ingest.otlp.dialects import anthropic_sdk
from ingest.otlp.facts import Part
from ingest.otlp.joining import Row, groups_of
from ingest.otlp.rows import row_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ended:
    """A trace that came whole.

    Attributes:
        calls: each with its spans.
        scopes: its other spans.
    """

    trace_id: str
    calls: list[tuple[NewCall, list[Part]]]
    scopes: Sequence[Part]

    @property
    def parts(self) -> list[Part]:
        """All its spans."""
        return [*self.scopes, *(part for _call, parts in self.calls for part in parts)]


def told_whole(
    parts: Sequence[Part], received_at_ms: int, *, packs: bool = False
) -> tuple[list[Ended], list[Part]]:
    """Return the traces among a request's spans that came whole, and all other spans.

    Of a whole trace without a call and without a name for anybody neither is anything: most requests of an
    application ask no model, and its web and database spans are most of what it sends.

    Args:
        packs: pack their texts for a SQLite file.
    """
    by_trace: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        by_trace[part.trace_id].append(part)
    ended, others = [], []
    for trace_id, spans in by_trace.items():
        found = None
        if _is_whole(spans):
            calls = [part for part in spans if part.role != "scope"]
            if not calls and not any(map(_names_somebody, spans)):
                continue
            if calls and all(map(_is_complete, calls)):
                found = _ended(trace_id, spans, received_at_ms, packs)
        if found is None:
            others += spans
        else:
            ended.append(found)
    return ended, others


def _is_whole(spans: Sequence[Part]) -> bool:
    """Whether the root is here, each span once, and none whose parent is missing."""
    if len(spans) == 1:
        return spans[0].parent_span_id is None
    keys = {part.span_id for part in spans}
    # A missing parent may be another span of one of these calls.
    linked = all(part.parent_span_id is None or part.parent_span_id in keys for part in spans)
    return linked and len(keys) == len(spans) and any(part.parent_span_id is None for part in spans)


def _names_somebody(part: Part) -> bool:
    facts = part.facts
    return bool(facts.session_id or facts.conversation_id or facts.user_id)


def _is_complete(part: Part) -> bool:
    facts = part.facts
    return (
        part.role == "whole"
        and part.pair_key is None
        and facts.provider not in (None, anthropic_sdk.PROVIDER)
        and facts.input is not None
        and (facts.output is not None or facts.failed is True)
    )


def _ended(trace_id: str, spans: Sequence[Part], received_at_ms: int, packs: bool) -> Ended | None:
    try:
        calls = []
        for assembled, parts in _assembled(spans):
            made = row_of(assembled, received_at_ms, packs=packs, is_clean=False)
            calls.append((made, parts))
    except (BadText, orjson.JSONEncodeError):  # `Facts.as_json` cleans and marks those that wait
        return None
    except Exception:  # a bug; the fragments are kept all the same, and closing says what it thinks of them
        log.exception("no call could be made of a whole trace's %d spans", len(spans))
        return None
    return Ended(trace_id, calls, [part for part in spans if part.role == "scope"] if len(spans) > 1 else ())


def _assembled(spans: Sequence[Part]) -> Iterator[tuple[Assembled, list[Part]]]:
    """Yield each call of a whole trace with its spans."""
    if len(spans) == 1:
        yield assemble_one(spans[0], {}), [spans[0]]
        return
    rows = [Row(seq, part, "", 0, None, None) for seq, part in enumerate(spans)]
    by_key = {row.key: row.part for row in rows}
    for group in groups_of(rows):
        yield assemble(group, by_key), [row.part for row in group]
