"""Commands that refuse an option given twice, in place of taking the last without a word."""

from __future__ import annotations

from collections import Counter
from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command each of whose options is given once, unless it is a list or a flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's own
        """Parse arguments, see click; an option that is given twice is an error."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(given).items():
            single = not getattr(parameter, "multiple", False) and parameter.nargs == 1
            if times > 1 and single and not getattr(parameter, "is_flag", False):
                ctx.fail(f"{parameter.opts[0]} is given {times} times; give it once")
        return super().parse_args(ctx, args)
