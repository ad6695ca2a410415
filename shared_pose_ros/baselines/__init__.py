"""Other systems behind the shared network's interface, for comparison: codebooks, object-specific networks."""
