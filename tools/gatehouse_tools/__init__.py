"""The host side of Gatehouse: make keys, build, sign, publish, provision, simulate, watch and demonstrate."""

__version__ = "1.0.0"
