"""`python -m gatehouse_tools` is `gatehouse`."""

from gatehouse_tools.cli import main

main()
