"""From boxes in an image to poses to publish, in stages over arrays: node, replay and evaluation run the same ones."""
