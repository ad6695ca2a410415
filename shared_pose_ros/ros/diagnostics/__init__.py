"""Counters, statistics and the reports made of them."""
