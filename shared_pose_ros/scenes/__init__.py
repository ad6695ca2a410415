"""Cluttered scenes of the user's own CAD, rendered as BOP datasets and as camera streams."""
