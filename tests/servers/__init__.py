"""Servers that run beside device code, honest and misbehaving."""
