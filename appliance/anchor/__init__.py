"""Followers of the log: they gather evidence about its heads, and never stand in a payment's way."""
