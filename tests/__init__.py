"""Tests: unit/ (functions), service/ (real server and database), browser/, sdk/, bench/ (figures, no tests).

Imports everything; nothing imports it.
"""
