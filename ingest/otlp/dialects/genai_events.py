"""The GenAI conventions' log records: content that stands in a request of its own, before or after its span.

gen_ai.client.inference.operation.details repeats the span's attributes with the content, *structured* (on
spans it is a JSON text). The old gen_ai.{system,user,assistant,tool}.message and gen_ai.choice hold one
message each. What an evaluation says is read by `ingest.otlp.evaluations`.
"""

from ingest.otlp.dialects.genai import CHOICE_EVENT, OLD_EVENTS, facts_of, read_old_event
from ingest.otlp.facts import Facts
from ingest.otlp.reading.items import Record
from ingest.otlp.values import as_value, name_in

DETAILS_EVENT = "gen_ai.client.inference.operation.details"
_NAMES = frozenset((DETAILS_EVENT, CHOICE_EVENT, *OLD_EVENTS))


def speaks(record: Record) -> bool:
    """Whether the record holds content of a call."""
    return record.name in _NAMES


def read(record: Record) -> Facts | None:
    """Return the facts of a record; None where it is about something else."""
    if record.name == DETAILS_EVENT:
        facts = facts_of(record.attributes)
        error_type = name_in(record.attributes, "error.type")
        if error_type is not None:
            facts.failed = True
            facts.error_type = error_type.rpartition(".")[2] or error_type
        return facts
    if not speaks(record):
        return None
    body = as_value(record.body)
    if not isinstance(body, dict):
        body = {"content": body} if isinstance(body, str) else {}
    facts = Facts(provider=name_in(record.attributes, "gen_ai.provider.name", "gen_ai.system"))
    read_old_event(facts, record.name, body)
    return facts
