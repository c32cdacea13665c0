"""The only shapes that cross a boundary."""
