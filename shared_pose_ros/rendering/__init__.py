"""Rendering CAD: rasterisation without gradient, closed-form depth with gradient, shading."""
