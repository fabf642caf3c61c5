"""Memory of the codec on a large image, in a process of its own."""

import subprocess
import sys

from peak import PEAK, needs_peak

PROGRAM = (
    PEAK
    + """
import torch
from diffjscc import AWGN, DiffJSCC

torch.set_grad_enabled(False)
scheme = DiffJSCC.from_pretrained("compact", "1/128", refiner=None, device="cpu")
scheme(torch.zeros(1, 3, 512, 768), AWGN(3.0))
images = torch.rand(1, 3, 1600, 2000)
before = peak()
scheme(images, AWGN(3.0))
print((peak() - before) * 1024 / images.nbytes)
"""
)


@needs_peak
def test_a_large_image_takes_little_more_memory_than_its_reconstruction() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    # Its floats are 38 MB; tiles of a megapixel took 300 MB beside them.
    assert float(found.stdout) < 4.5
