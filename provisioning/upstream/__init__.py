"""What a head office runs for its boxes."""
