"""What can go wrong between a client or a command line and us, and the one shape in which HTTP says it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s

    def response(self) -> "Response":
        """Return {"error": {"code", "message", "field"?}}."""
        # Imported here: the command line needs the errors above, and no web server for its help.
        import orjson
        from starlette.responses import Response

        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.field is not None:
            error["field"] = self.field
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return Response(orjson.dumps({"error": error}), self.status, headers, "application/json")
