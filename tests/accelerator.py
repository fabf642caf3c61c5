"""The state that accelerate keeps for a whole process."""

import sys


def forget_accelerator() -> None:
    """Let the next training choose its device and precision anew."""
    if "accelerate.state" in sys.modules:  # it is slow to import
        state = sys.modules["accelerate.state"].AcceleratorState
        state._reset_state(reset_partial_state=True)
