"""The two programs: `neumann`, a server, and `neumann-admin`, what an operator types.

server.py    `neumann`                       settings.py  the configuration file and the environment
admin.py     `neumann-admin`: the group      http.py      requests to a node
cluster.py data.py query.py snapshots.py recovery.py check.py: its verbs, by family
output.py    text and JSON on the terminal   logs.py      the server's messages
"""
