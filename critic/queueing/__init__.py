"""What waits for the critic: which calls need which score rows; how rows are leased, rendered and closed.

Imported by critic.working, critic.batching, critic.explaining and above; imports critic.tables and
critic.spending. Data comes from `todo` rows and call texts and goes to score rows.
"""
