"""Judging by the providers' batch endpoints: what waits, what is under way, what became of it.

Imported by critic.working and api; imports critic.queueing, critic.spending and critic.drivers.
"""
