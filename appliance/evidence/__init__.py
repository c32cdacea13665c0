"""Formats of others that make a head believable to strangers; bytes in, facts out, no IO."""
