"""GROUND. Takes calls and signals in and keeps them: settings, database, wire formats, the writer.

Imported by critic, outliers, dashboards and api; imports none of them, nor rubrics.
Data comes from HTTP bodies and files (`ingest.wire`) and goes to the tables of `ingest.tables`.
"""
