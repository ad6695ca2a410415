"""Faster forms of the exported network: fused, int8, half precision."""
