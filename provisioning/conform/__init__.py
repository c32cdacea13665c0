"""A scripted box that scores the clients of the terminal protocol."""
