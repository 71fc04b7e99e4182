"""How far a critic can be trusted: agreement with people, trials of rubrics, attacks on it.

Imported by dashboards and api; imports critic.drivers and what a trial needs of critic.working.
"""
