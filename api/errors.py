"""What can go wrong between a client or a command line and us, and the one shape in which HTTP says it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response


class ApiError(Exception):
    """Base of everything `api` raises on purpose; the message names the thing and the remedy."""


class CannotServe(ApiError):
    """The server cannot start; the message is one line that says what to change."""


class Refused(ApiError):
    """A request is answered with an error.

    Attributes:
        status: HTTP status.
        code: a word for programs.
        field: the field at fault, where there is one.
        retry_after_s: seconds after which the same may be sent again, where that helps.
        close: whether the connection ends with the answer, as the rest of a body is not waited for.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s
        self.close = close

    def response(self) -> "Response":
        """Return {"error": {"code", "message", "field"?}}."""
        # Imported here: the command line needs the errors above, and no web server for its help.
        import orjson
        from starlette.responses import Response

        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.field is not None:
            error["field"] = self.field
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.close:
            headers["Connection"] = "close"
        return Response(orjson.dumps({"error": error}), self.status, headers, "application/json")


def bug() -> Refused:
    """Return how HTTP says that something was raised which nobody foresaw; whoever caught it logs it."""
    return Refused(500, "bug", "This is a bug in Lowlight; the server's log has the details.")


def refusal_of(error: Exception) -> Refused | None:
    """Return how HTTP says what `ingest` raised, or what was refused; None for a bug."""
    from ingest.errors import StoreUnavailable, WriterBusy
    from ingest.wire import BadBody

    if isinstance(error, Refused):
        return error
    if isinstance(error, BadBody):
        status = {"bad_json": 400, "too_many_items": 413}.get(error.code, 422)
        return Refused(status, error.code, str(error), field=error.field)
    if isinstance(error, WriterBusy):
        return Refused(503, "busy", str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, StoreUnavailable):
        return Refused(503, "store_unavailable", str(error), retry_after_s=5)
    return None


def refusal_of_fields(problems: "Sequence[Any]") -> Refused:
    """Return how HTTP says what is wrong with a query or a body that FastAPI has read; the first is told.

    Args:
        problems: pydantic's, as `RequestValidationError.errors()` has them: each place begins with "query",
            "path" or "body".
    """
    from ingest.rejections import in_our_words

    first = problems[0]
    kind, context = first["type"], first.get("ctx", {})
    if kind == "json_invalid":
        return Refused(400, "bad_json", f"The body is not JSON: {context.get('error', 'it cannot be read')}.")
    field = ".".join(str(part) for part in first["loc"][1:])
    if not field and kind == "missing":
        return Refused(422, "invalid", "The body is missing; send a JSON object.")
    # What a receipt says of an empty field, to leave it out, is wrong of a field that is needed.
    words = "must not be empty" if kind == "string_too_short" else in_our_words(kind, context)
    if kind == "value_error":
        return Refused(422, "invalid", words, field=field or None)
    return Refused(422, "invalid", f"{field or 'The body'} {words}.", field=field or None)
