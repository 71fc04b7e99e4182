"""HTTP addresses, one module a subject: a request in, checked; what the packages below answer out.

Imported by api.app only (and by each other for what they share).
"""
