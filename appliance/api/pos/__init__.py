"""The terminals' door."""
