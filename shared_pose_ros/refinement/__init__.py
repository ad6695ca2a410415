"""Poses made better after the estimate: aligned to a depth image, scored and refined by rendering."""
