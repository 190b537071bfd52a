"""``python -m holobeam``: the command line."""

from holobeam.cli import main

main()
