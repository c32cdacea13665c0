"""Strict CBOR, COSE, JWS, signatures, envelopes, known-answer self-tests."""
