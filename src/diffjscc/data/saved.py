"""Reading of files that `torch.save` wrote, as data: no code in them is run."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch


class DamagedError(ValueError):
    """A file that is not, or no longer, what `torch.save` writes; says in a few words why."""


def load_saved(path: Path, device: torch.device | str = "cpu") -> Any:  # noqa: ANN401 - anything
    """Load what was saved, its tensors on `device`.

    Raises:
        DamagedError: it is damaged, or holds more than tensors and plain values.
        OSError: it cannot be read.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        # The numbers in a file that was cut may point before its beginning.
        if error.errno != errno.EINVAL:
            raise
        raise DamagedError("it was cut") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch, pickle and zip raise all kinds of errors
        first = (str(error).strip().splitlines() or [""])[0]
        raise DamagedError(first or type(error).__name__) from error
