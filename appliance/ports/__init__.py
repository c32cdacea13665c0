"""Protocols in our own words; the core owns them, adapters and fakes satisfy them."""
