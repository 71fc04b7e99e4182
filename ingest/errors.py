"""What can go wrong in intake and its store, as a caller sees it."""


class IngestError(Exception):
    """Base of everything `ingest` raises on purpose; the message names the thing and the remedy."""


class StoreUnavailable(IngestError):
    """The database cannot be opened, read or written now; the message says which file and what to do."""


class WriterBusy(IngestError):
    """The writer's queue is full; nothing was kept. Send the same again after `retry_after_s`.

    Attributes:
        retry_after_s: seconds to wait.
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadSettings(IngestError):
    """A setting cannot be used; the message names its variable and what it takes."""
