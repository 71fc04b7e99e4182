"""What stands before every route: who may write, what a body may be, how many bytes are in hand.

Imported by api.app and api.routes.
"""
