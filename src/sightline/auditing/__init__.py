"""Checks of the data before anything is learned from it."""
