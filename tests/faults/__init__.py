"""Real faults on real processes: three servers in network namespaces, broken and mended under load."""
