"""Peak memory of a process that a test starts."""

from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")

PEAK = """
from pathlib import Path

def peak():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1])
"""
"""Start of a program: `peak()` gives the most memory that it took so far, in KiB.

Not `getrusage`, whose number begins at the peak of the process that started the program.
"""

needs_peak = pytest.mark.skipif(
    not STATUS.exists(), reason=f"the peak of a process's memory is read from {STATUS}"
)
