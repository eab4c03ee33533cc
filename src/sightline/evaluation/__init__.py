"""Metrics and intervals as pure functions of numpy arrays."""
