"""Variants of a bundle: made, measured against what they were made from, and released only where they keep its accuracy."""
