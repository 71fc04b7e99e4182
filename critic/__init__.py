"""Gives each call its scores: drivers, queue, worker and the local critic. No web server.

Imported by outliers, dashboards and api; imports ingest and rubrics only.
Data comes from `todo` rows and call texts and goes to the tables of `critic.tables`.
"""
