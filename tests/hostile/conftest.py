"""Input that nobody would choose to send: every case succeeds or is refused in words."""

from collections import Counter

import pytest

from attempts import Attempts

COUNTS = pytest.StashKey[Counter[str]]()
"""Cases tried, by kind; the summary at the end of a run shows them."""


@pytest.fixture
def attempts(pytestconfig: pytest.Config) -> Attempts:
    """Count the cases of a test by kind."""
    return Attempts(pytestconfig.stash.setdefault(COUNTS, Counter()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases of each kind were tried."""
    counts = terminalreporter.config.stash.get(COUNTS, None)
    if counts:
        terminalreporter.section("hostile input, cases by kind")
        for kind, number in sorted(counts.items()):
            terminalreporter.line(f"{number:6} {kind}")
        terminalreporter.line(f"{counts.total():6} in all")
