"""Who may speak: terminals, pairing."""
