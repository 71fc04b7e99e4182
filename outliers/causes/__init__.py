"""Causes of the tail: what latency was to be expected, and which conditions hold for the calls beyond it.

Imported by outliers.weekly, dashboards and api; imports outliers.cohorts for its search of conditions.
"""
