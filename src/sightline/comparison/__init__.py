"""Finished runs beside each other: their figures, the difference on the same test images, and where they disagree."""
