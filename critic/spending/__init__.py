"""Money: prices, the hard daily budget, and how calls are drawn for it.

Imported by critic.queue and whoever judges; imports critic.drivers and critic.tables.
Data comes from drivers' usage and the price tables and goes to `spend` rows, reservations and rates.
"""
