"""The worker: takes calls in, judges them in one lane per critic, writes what came of it.

Imported by critic.process; imports the rest of critic. Flow: `taking` -> `lane` -> outbox -> the writer.
"""
