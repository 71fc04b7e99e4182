"""Finds the worst: tails and what sets them apart, experience, cohorts, the week's case.

Imported by dashboards and api; imports critic, ingest and rubrics only.
Data comes from what the others wrote and goes to the tables of `outliers.tables`.
"""
