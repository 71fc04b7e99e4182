"""From a context to what a reader sees: sentences about cases and parts, geometry of charts, HTML and JSON.

Imported by dashboards.pages (its sentences) and by api (`render`); imports dashboards.queries, whose
dataclasses it draws. Data comes in as frozen dataclasses and goes out as words, numbers in per cent, HTML or
JSON bytes.
"""
