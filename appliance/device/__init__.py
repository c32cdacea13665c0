"""Boot, state and health of the box."""
