"""Latency: its tail by any field, its hours, and spells against its own past.

Imported by the rest of outliers and above; imports the columns of outliers.
"""
