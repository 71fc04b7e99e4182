"""The week in one page: as plain data, and as a person reads it in a terminal.

Imported by api.routes, api.cli and the demo.
"""
