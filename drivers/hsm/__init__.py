"""Blocking PKCS#11 driver: one library, one token, keys that never leave it."""
