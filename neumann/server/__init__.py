"""The faces of a running node on the network: MessagePack-RPC (rpc.py) and HTTP.

admin.py    the HTTP server: /admin and /health, started and stopped here
kv.py       /kv: rows                     http.py     what all routes share: errors, token, counting
query.py    /query: SQL                   routes.py   what a route takes and answers, said once
metrics.py  /metrics                      openapi.py  /openapi.json, made of that
"""
