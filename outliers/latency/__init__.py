"""Latency: its tail by any field, its causes, its hours, and spells against its own past.

Imported by outliers.weekly, dashboards and api; imports the columns and conditions of outliers.
"""
