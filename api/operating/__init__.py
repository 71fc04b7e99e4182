"""What an operator asks: readiness, metrics, check-ups, backups and restores.

Imported by api.app, api.routes and api.cli.
"""
