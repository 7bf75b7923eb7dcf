"""neumann: an embeddable Raft store whose backups can be trusted."""

__version__ = "0.1.0"
