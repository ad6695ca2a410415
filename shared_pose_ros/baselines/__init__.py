"""Other systems than the shared network, behind the same interface, for comparison: codebooks, object-specific networks."""
