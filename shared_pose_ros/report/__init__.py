"""Evaluations as HTML pages: tables, plots, worst cases, overlays."""
