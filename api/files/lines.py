"""Lines of a file, plain or gzip, or of stdin.

Flow: `opened(name)` -> lines of bytes -> `api.files.importing`.
"""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from api.errors import ApiError


class BadFile(ApiError):
    """The file cannot be read (any further); the message says where and why."""


@dataclass
class Lines:
    """An open file of lines.

    Attributes:
        size: of the file as it lies there, in bytes; None for stdin.
    """

    name: str
    size: int | None
    _raw: BufferedReader

    @property
    def read_bytes(self) -> int:
        """How far reading has got, in bytes of the file as it lies there."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines.

        Raises:
            BadFile: the gzip is broken, or the disk is.
        """
        zipped = self._raw.peek(2)[:2] == b"\x1f\x8b"
        number = 0
        try:
            for line in gzip.GzipFile(fileobj=self._raw) if zipped else self._raw:
                number += 1
                yield line
        except (EOFError, OSError, zlib.error) as error:
            raise BadFile(
                f"{self.name}: cannot be read past line {number}: {error}. The lines before it were taken; "
                "fetch the file again and import it anew, which doubles nothing."
            ) from None


@contextmanager
def opened(name: str) -> Iterator[Lines]:
    """Open a file of lines, `-` for stdin.

    Raises:
        BadFile: it cannot be opened.
    """
    if name == "-":
        stdin: Any = sys.stdin.buffer
        yield Lines("stdin", None, stdin if isinstance(stdin, BufferedReader) else BufferedReader(stdin))
        return
    try:
        raw = Path(name).open("rb")  # noqa: SIM115 (closed below, what the block raises is not ours)
    except OSError as error:
        raise BadFile(f"{name}: {error.strerror}. Give a file of JSON lines, or - for stdin.") from None
    with raw:
        yield Lines(name, Path(name).stat().st_size, raw)
