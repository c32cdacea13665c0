"""Real purchases sent through two tills, and every cent accounted for."""
