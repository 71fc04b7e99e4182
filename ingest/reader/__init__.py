"""The reading process: an interpreter of its own in which large bodies become rows, beside the server's.

Imported by `api`; `child` runs in that process and imports the readers of `ingest` (no SQLAlchemy, no web
server), `process` is the server's side of it, `passing` what both agree on. Flow: body -> `process.Reader` ->
a file in memory -> `child` -> the same file -> rows -> the server's writer.
"""
