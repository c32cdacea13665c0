"""The door of the command line on the box itself: a Unix socket."""
