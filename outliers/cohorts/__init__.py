"""Cohorts: what sets bad or slow calls apart, found on one half of the people and tested on the other.

Imported by outliers.casework, outliers.causes, outliers.weekly and above.
"""
