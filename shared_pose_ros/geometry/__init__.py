"""Pure geometry: rotations, cameras, boxes. Imports nothing else of this package."""
