"""A lock between the event loop and the lanes' threads, for the few values that both change."""

from threading import Lock as Mutex

__all__ = ["Mutex"]
