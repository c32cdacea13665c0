"""The journey of a payment."""
