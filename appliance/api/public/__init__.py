"""The read-only door of auditors and monitoring."""
