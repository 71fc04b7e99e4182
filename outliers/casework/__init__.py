"""The case: nominated or picked, worked on by people, its fix verified, watched after it is closed.

Imported by outliers.weekly, dashboards and api; imports outliers.cohorts.
"""
