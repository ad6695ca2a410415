"""Messages to arrays and back, by their fields."""
