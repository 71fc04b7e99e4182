"""Explanations: the words behind a score, asked for and written after it.

Imported by critic.process, dashboards and api; imports critic.drivers and critic.spending.
"""
