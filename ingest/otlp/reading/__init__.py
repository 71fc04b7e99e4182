"""An OTLP request as plain data: protobuf and JSON bodies become the same spans and log records.

Flow: HTTP body -> `read_spans`, `read_records` -> `from_protobuf`, `from_json` -> `items` ->
`ingest.otlp.dialects`. One bad span never sinks its request (`Read.rejected`); a body that is no request at
all does (BadBody).
"""

from ingest.otlp.reading import from_json, from_protobuf
from ingest.otlp.reading.items import Read, Record, Span


def read_spans(body: bytes, *, is_json: bool) -> Read[Span]:
    """Read an ExportTraceServiceRequest.

    Raises:
        BadBody: it is none, or holds over 10,000 spans.
    """
    return from_json.spans_of(body) if is_json else from_protobuf.spans_of(body)


def read_records(body: bytes, *, is_json: bool) -> Read[Record]:
    """Read an ExportLogsServiceRequest. See `read_spans`."""
    return from_json.records_of(body) if is_json else from_protobuf.records_of(body)


def check_metrics(body: bytes, *, is_json: bool) -> None:
    """Make sure that a body is an ExportMetricsServiceRequest; nothing of it is kept. See `read_spans`."""
    if is_json:
        from_json.object_of(body)
    else:
        from_protobuf.check_metrics(body)
