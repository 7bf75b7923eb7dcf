"""What the questions share: the peer, the load generator, the rounds, the report."""
