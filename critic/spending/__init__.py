"""Money: prices, the hard daily budget, and which calls it is spent on.

Imported by critic.queue and whoever judges; imports critic.tables and critic.queue's plain rows.
Data comes from drivers' usage and the price tables and goes to `spend` rows, reservations and choices.
"""
