"""What is read from files: calls to bring in, mappings of foreign rows, golden sets.

Imported by api.cli and api.routes.
"""
