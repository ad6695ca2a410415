"""CAD files in; normalised meshes, diameters and symmetries out.

Only this room imports trimesh, and only where a file is read: ``symmetries`` needs numpy and the geometry room alone.
"""
