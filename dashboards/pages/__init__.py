"""One module per page: a frozen context with documented fields, and `build`, which reads it. `dateline` is
what all of them begin with.

`build(connection, settings, asked, now)` takes a read-only Connection; `now` is handed in so that a page and
its JSON twin can be compared, and tested. A page's template has the module's name.
"""
