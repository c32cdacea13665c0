"""Blocking TPM 2.0 driver: one thread, one ESAPI context; knows nothing of shops, ledgers or event loops."""
