"""The HTTP service of a run: one process, one engine thread, a bounded queue in front of it."""
