"""The web view: named queries, one typed context per page, templates, charts, static files.

Imported by api only; imports outliers, critic, ingest and rubrics.
Data comes from read-only connections and goes out as a page's context, its HTML or its JSON twin.
"""
