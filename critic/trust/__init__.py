"""How far a critic can be trusted: agreement with people, what their labels teach, drift, trials, attacks.

Imported by dashboards and api; imports critic.drivers and what a trial needs of critic.working.
"""
