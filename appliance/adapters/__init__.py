"""Async faces of drivers and network peers."""
