"""An OTLP request as plain data: protobuf and JSON bodies become the same spans and log records.

Flow: HTTP body -> `read_spans`, `read_records` -> `from_protobuf`, `from_json` -> `items` ->
`ingest.otlp.dialects`. One bad span never sinks its request (`Read.rejected`); a body that is no request at
all does (BadBody).
"""

from collections.abc import Callable

from ingest.otlp.reading import from_json, from_protobuf
from ingest.otlp.reading.items import Item, Read, Record, Span


def read_spans(body: bytes, *, is_json: bool) -> Read[Span]:
    """Read an ExportTraceServiceRequest.

    Raises:
        BadBody: it is none, or holds over 10,000 spans.
    """
    return tell_spans(body, _itself, is_json=is_json)


def tell_spans(body: bytes, told_by: Callable[[Span], Item], *, is_json: bool) -> Read[Item]:
    """Return what each span of a request tells; see `read_spans`.

    One span after the other: a request's spans together are larger than a processor's cache.
    """
    of_body = from_json.spans_of if is_json else from_protobuf.spans_of
    return of_body(body, told_by)


def _itself(span: Span) -> Span:
    return span


def read_records(body: bytes, *, is_json: bool) -> Read[Record]:
    """Read an ExportLogsServiceRequest. See `read_spans`."""
    return from_json.records_of(body) if is_json else from_protobuf.records_of(body)


def check_metrics(body: bytes, *, is_json: bool) -> None:
    """Make sure that a body is an ExportMetricsServiceRequest; nothing of it is kept. See `read_spans`."""
    if is_json:
        from_json.object_of(body)
    else:
        from_protobuf.check_metrics(body)
