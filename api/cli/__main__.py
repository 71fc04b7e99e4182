"""`python -m api.cli`: the command line where the console script is not on the PATH."""

from api.cli import main

main(prog_name="lowlight")
