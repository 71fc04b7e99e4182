"""Long texts are packed in a SQLite file: half the bytes to write, to keep and to copy.

Flow: `ingest.intake` -> `packed` -> call_text.input, call_text.output -> `ingest.packed_text` unpacks what a
query selects.

A packed text is a BLOB in RFC 1950 (zlib), a short one stays TEXT; a row tells which by its own type, so that
both kinds lie in one column. ISA-L packs 350 MB/s where zlib packs 80, in the same format: what it wrote,
any zlib reads. PostgreSQL packs long values by itself (TOAST) and gets every text as it is.
"""

import sqlite3
import zlib

try:
    from isal.isal_zlib import compress as _compress

    _LEVEL = 0
except ImportError:  # no wheel for this machine
    from zlib import compress as _compress

    _LEVEL = 1

#: A shorter text, in characters, is kept as it is: packing would cost more than it spares.
PACKED_CHARS_MIN = 2_000
#: What packing must spare of a text, as a share; hashes and base64 stay as they are.
SPARED_MIN = 0.15

#: What SQL calls `unpacked` on a connection that `teach` was given.
FUNCTION = "lowlight_text"


def packed(text: str) -> str | bytes:
    """Return a text as a SQLite file keeps it."""
    return text if len(text) < PACKED_CHARS_MIN else packed_bytes(text.encode()) or text


def packed_bytes(encoded: bytes) -> bytes | None:
    """Return a text's UTF-8 packed; None where that spares too little."""
    blob = _compress(encoded, _LEVEL)
    return blob if len(blob) <= (1 - SPARED_MIN) * len(encoded) else None


def unpacked(kept: str | bytes | None) -> str | None:
    """Return the text that `packed` was given."""
    return zlib.decompress(kept).decode() if isinstance(kept, bytes) else kept


def teach(connection: sqlite3.Connection) -> None:
    """Let SQL on this connection look into packed texts; see `ingest.packed_text.plain`."""
    connection.create_function(FUNCTION, 1, unpacked, deterministic=True)
