"""The lines of docs/opentelemetry.md, each run with its real package, in an environment of its own.

`make clients` makes the environments (`tests.clients.install`); a test whose package is not there says so.
"""
