"""Families of random parts: functions from a ``Sampler`` to a solid of about 100 mm, each with many variants."""
