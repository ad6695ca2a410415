"""From CAD to a trained network: synthesis, augmentation, loss, trainer."""
