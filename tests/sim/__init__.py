"""The simulated world: a second full implementation of each door of env/, and what checks a run in it."""
