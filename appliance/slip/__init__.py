"""Slips: what a payment is, on paper, for people."""
