"""GROUND. The rubrics (`*.jinja`) and the code that finds, checks and renders them. No database, no HTTP.

Imported by critic, dashboards and api; imports none of them, nor ingest.
Data comes from files under version control and a call's fields, and goes out as text for a critic.
"""
