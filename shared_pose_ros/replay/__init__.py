"""Bags through the node's own pipeline: offline, or played to a live node."""
