"""SQL over the rows of one moment: tables as virtual tables of SQLite itself (design section 9).

statement.py  runs one statement: limits, errors, and which columns it needs
columns.py    the columns that a table's rows have, and the cells in them
virtual.py    a table as SQLite sees it: lookups, ranges and order by the key

It works on any store.View, in the caller's thread; runtime/queries.py and the command line call it.
"""
