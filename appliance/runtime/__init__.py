"""Running: supervision, deadlines, clock, logs, metrics, traces."""
