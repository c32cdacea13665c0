"""The composition root: the only place that builds concrete parts and knows all of them.

Two phases: `trust.py` (TPM, then token and keys), then `box.py` (the log, which recovers itself, and on it the
domains and the doors).
"""
