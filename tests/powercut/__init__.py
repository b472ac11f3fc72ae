"""Power cuts at every flash operation of a whole simulated device, by MCUboot's method (docs/powercut.md)."""
