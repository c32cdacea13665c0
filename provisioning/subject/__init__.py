"""`tillstone subject`: what the box holds about a person, handed out or erased."""
