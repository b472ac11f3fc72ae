"""The demonstration: one simulated device, its house, and what is tried on it. Every verdict comes from its reports."""
