"""The soak of whole devices (`make soak`, docs/soak.md)."""
