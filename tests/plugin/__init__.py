"""The pytest plugin that runs device tests inside MicroPython."""
