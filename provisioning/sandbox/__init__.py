"""A whole simulated shop on one machine: twins of the peers that a real one has."""
