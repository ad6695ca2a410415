"""The shared network: crop, encoder, pose head. Scriptable, so that training and the node run the same code."""
