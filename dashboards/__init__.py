"""The web view: named queries, one typed context per page, templates, charts, static files.

Imported by api only; imports outliers, critic, ingest and rubrics. Its rooms import one way:
`pages` (contexts), `drawing` (words, charts, HTML), `queries`, and at the ground `filters`, `panels`,
`memory` and what else lies here.
Data comes from read-only connections and goes out as a page's context, its HTML or its JSON twin.
"""
