"""Blocking drivers of what sits on the box's board itself."""
