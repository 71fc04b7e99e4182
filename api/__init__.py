"""TOP. The HTTP app, its routes and the command line. No SQL.

Imported by nobody; imports everything below it.
Data comes from HTTP requests and arguments and goes to the packages below; answers go back out.
"""
