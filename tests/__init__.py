"""Tests: unit/ (functions), service/ (real server, real database), browser/, sdk/, bench/ (figures, not tests).

Imports everything; nothing imports it.
"""
