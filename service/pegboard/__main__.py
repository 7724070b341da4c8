"""`python -m pegboard` is the command `pegboard`."""

from pegboard.cli import main

main(prog_name="pegboard")
