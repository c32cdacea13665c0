"""A till: the typed client of the terminal door, with everything it must keep between two sales."""
