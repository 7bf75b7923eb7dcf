"""The archive of the log: pushed segment by segment by the leader, read by recovery (design section 7)."""
