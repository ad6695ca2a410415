"""What people see: markers, debug image, transforms."""
