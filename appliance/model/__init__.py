"""Words of the domain: pure values, no input or output."""
