"""The runbook's procedures, executed on real processes, sockets and files."""
