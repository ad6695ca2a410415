"""CAD files in; checked surfaces, normalised meshes, diameters and symmetries out.

Where a file is read, scipy is needed, and manifold3d for concave polygons and bodies that overlap; ``symmetries`` needs
numpy and the geometry package alone.
"""
