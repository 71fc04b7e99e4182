"""Judging by the providers' batch endpoints: what waits, what is under way, what became of it.

Imported by critic.working and api; imports critic.queue, critic.spending and critic.drivers.
"""
