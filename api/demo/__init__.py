"""The demo: a week of an invented product's traffic, sent as an application would send it.

Imported by api.cli only. It alone of the server's packages uses the SDK, over HTTP.
Data comes from the texts beside it and a seed, goes through `lowlight.Client`, and ends in a printed report.
"""
