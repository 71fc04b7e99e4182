"""What can be done about a case, by HTTP, by form or in the terminal: one way each.

Imported by api.routes and api.cli.
"""
