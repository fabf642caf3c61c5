"""`python -m diffjscc`, also for `accelerate launch -m diffjscc`."""

from diffjscc.cli import main

main()
