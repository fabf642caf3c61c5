"""Load of the demo page: many visitors at once, each with an image of its own.

    python benchmarks/demo_load.py [--visitors 20] [--seconds 120] [-o load.json]

The page is served by a process of its own (`diffjscc demo`). Every visitor uploads an image and
changes the SNR again and again, as fast as the page answers; it asks for what a browser asks for.
Every image that it gets is compared with the images of all visitors: it must resemble its own.
Reported are the results per minute, the seconds that a visitor waits, the places in the queue that
the server gave, and the most memory that the server took.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (384, 256)  # width and height of the visitors' images
SNRS = (-2.0, 1.0, 4.0, 7.0, 10.0, 13.0)
PATIENCE = 600.0  # seconds that a visitor waits for an answer
CLEARLY = 4.0  # the next visitor's image is at least so many times farther away

Sketch = NDArray[np.float32]


def own_image(number: int) -> Image.Image:
    """Image of a visitor: coarse coloured shapes, unlike those of all others."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def sketch(image: Image.Image) -> Sketch:
    """A few colours of an image, by which it is recognised."""
    small = image.convert("RGB").resize((12, 8), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


@dataclass
class Findings:
    """Everything that the visitors saw; they share it.

    Attributes:
        seconds: that they waited, by the kind of work.
        images: images that were checked, by component.
        places: highest place in the queue that the server gave, counted from 1.
        told: number of places that it gave.
        faults: everything that went wrong, in words.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    places: int = 0
    told: int = 0
    faults: list[str] = field(default_factory=list)


class Layout:
    """Functions and components of the page, from what the server says of them."""

    def __init__(self, address: str) -> None:
        config = httpx.get(f"{address}config", timeout=60).raise_for_status().json()
        self.prefix = address.rstrip("/") + config["api_prefix"]
        self.functions = {item["id"]: item for item in config["dependencies"]}
        self.values = {item["id"]: item["props"].get("value") for item in config["components"]}
        self.kinds = {item["id"]: item["type"] for item in config["components"]}
        names = {item["id"]: item["props"].get("elem_id") for item in config["components"]}
        self.names = {number: name for number, name in names.items() if name}
        self.numbers = {name: number for number, name in self.names.items()}

    def named(self, name: str) -> dict[str, Any]:
        """The function of this name."""
        return next(item for item in self.functions.values() if item["api_name"] == name)

    def after(self, state: int) -> list[dict[str, Any]]:
        """Functions that browsers call without the queue when a state has changed."""
        return [
            item
            for item in self.functions.values()
            if [state, "change"] in item["targets"] and not item["queue"]
        ]


class Visitor(threading.Thread):
    """A browser's part of the conversation, with an image of its own.

    Args:
        layout: of the page.
        number: its number, from 0.
        sketches: of all visitors' images.
        seconds: how long it stays; once around at least.
        findings: where it writes.
        lock: of the findings.
        steps: of sampling; None takes the page's.
    """

    def __init__(
        self,
        layout: Layout,
        number: int,
        sketches: list[Sketch],
        seconds: float,
        findings: Findings,
        lock: threading.Lock,
        steps: int | None,
    ) -> None:
        super().__init__(daemon=True)
        self._layout, self._number, self._sketches = layout, number, sketches
        self._end = time.monotonic() + seconds
        self._findings, self._lock = findings, lock
        self._session = secrets.token_hex(8)
        self._values = dict(layout.values)
        if steps is not None:
            self._values[layout.numbers["steps"]] = steps
        self._http = httpx.Client(timeout=PATIENCE)

    def run(self) -> None:
        """Stay on the page, change the SNR, and look at everything that comes."""
        try:
            self._upload()
            choices = random.Random(self._number)
            while True:
                self._values[self._layout.numbers["snr"]] = choices.choice(SNRS)
                self._ask("_codec")
                self._ask("_receiver", "_digital")
                if time.monotonic() > self._end:
                    break
        except Exception as error:
            self._fault(f"{type(error).__name__}: {error}")
        finally:
            self._http.close()

    def _fault(self, words: str) -> None:
        with self._lock:
            self._findings.faults.append(f"visitor {self._number}: {words}")

    def _upload(self) -> None:
        file = io.BytesIO()
        own_image(self._number).save(file, format="PNG")
        files = {"files": (f"own-{self._number}.png", file.getvalue(), "image/png")}
        answer = self._http.post(f"{self._layout.prefix}/upload", files=files).raise_for_status()
        path = answer.json()[0]
        meta = {"_type": "gradio.FileData"}
        self._values[self._layout.numbers["upload"]] = {"path": path, "meta": meta}
        self._ask("_upload")

    def _ask(self, *names: str) -> None:
        """Call functions at once, and wait for all of them."""
        start = time.monotonic()
        waiting: dict[str, dict[str, Any]] = {}
        for name in names:
            function = self._layout.named(name)
            answer = self._http.post(
                f"{self._layout.prefix}/queue/join", json=self._body(function)
            ).raise_for_status()
            waiting[answer.json()["event_id"]] = function
        with self._http.stream(
            "GET", f"{self._layout.prefix}/queue/data", params={"session_hash": self._session}
        ) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                event = message.get("event_id")
                self._hear(message, waiting.get(event))
                if message["msg"] == "process_completed":
                    done = waiting.pop(event, None)
                    self._note(done, time.monotonic() - start)
                if not waiting or message["msg"] == "close_stream":
                    break
        for function in waiting.values():
            self._fault(f"no answer from {function['api_name']}")

    def _note(self, function: dict[str, Any] | None, seconds: float) -> None:
        if function is not None:
            with self._lock:
                self._findings.seconds.setdefault(function["api_name"], []).append(seconds)

    def _hear(self, message: dict[str, Any], function: dict[str, Any] | None) -> None:
        """Take a message of the queue."""
        if message["msg"] == "estimation" and message.get("rank") is not None:
            with self._lock:
                self._findings.told += 1
                self._findings.places = max(self._findings.places, message["rank"] + 1)
        if message["msg"] not in ("process_generating", "process_completed") or function is None:
            return
        output = message["output"]
        if not message["success"]:
            self._fault(f"{function['api_name']}: {output.get('error')}")
            return
        if message["msg"] == "process_completed":  # others give differences
            self._take(function, output.get("data", []))
        for state in output.get("changed_state_ids", []):
            for later in self._layout.after(state):
                self._draw(later)

    def _draw(self, function: dict[str, Any]) -> None:
        answer = self._http.post(
            f"{self._layout.prefix}/run/predict", json=self._body(function)
        ).raise_for_status()
        self._take(function, answer.json()["data"])

    def _body(self, function: dict[str, Any]) -> dict[str, Any]:
        """What a browser sends: the values of all inputs but states, which the server holds."""
        data = [
            None if self._layout.kinds[number] == "state" else self._values.get(number)
            for number in function["inputs"]
        ]
        return {"data": data, "fn_index": function["id"], "session_hash": self._session}

    def _take(self, function: dict[str, Any], data: list[Any]) -> None:
        """Look at the images among the outputs of a function."""
        for number, value in zip(function["outputs"], data, strict=False):
            name = self._layout.names.get(number, "")
            if name.startswith("image-") and isinstance(value, dict):
                found = value.get("value", value)
                if found is not None:
                    self._look(name.removeprefix("image-"), found["url"])

    def _look(self, name: str, address: str) -> None:
        """Compare an image with the images of all visitors."""
        content = self._http.get(address).raise_for_status().content
        image = Image.open(io.BytesIO(content))
        seen = sketch(image)
        errors = [float(np.mean((seen - other) ** 2)) for other in self._sketches]
        nearest = int(np.argmin(errors))
        others = min((e for i, e in enumerate(errors) if i != self._number), default=np.inf)
        grey = float(seen.std()) < 1  # an outage's placeholder
        if image.size != SIZE:
            self._fault(f"{name} has the size {image.size}")
        elif not grey and (nearest != self._number or errors[nearest] * CLEARLY > others):
            self._fault(f"{name} looks like the image of visitor {nearest}")
        with self._lock:
            self._findings.images[name] = self._findings.images.get(name, 0) + 1


def visit(address: str, visitors: int, seconds: float, steps: int | None = None) -> Findings:
    """Send visitors to the page at an address, for some seconds; all finish what they began."""
    layout, findings, lock = Layout(address), Findings(), threading.Lock()
    sketches = [sketch(own_image(number)) for number in range(visitors)]
    group = [
        Visitor(layout, number, sketches, seconds, findings, lock, steps)
        for number in range(visitors)
    ]
    for visitor in group:
        visitor.start()
    for visitor in group:
        visitor.join()
    return findings


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """Start `diffjscc demo`; gives its address and process."""
    words = [sys.executable, "-m", "diffjscc", "demo", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield next(word for word in line.split() if word.startswith("http")), process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def peak_mib(process: int) -> float:
    """Most memory that a process took so far, in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with served() as (address, process):
        before, start = peak_mib(process), time.monotonic()
        findings = visit(address, arguments.visitors, arguments.seconds)
        minutes = (time.monotonic() - start) / 60
        memory = peak_mib(process)
    results = {
        "visitors": arguments.visitors,
        "minutes": round(minutes, 2),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "results per minute": {
            name.strip("_"): round(len(times) / minutes, 1)
            for name, times in findings.seconds.items()
        },
        "median seconds waited": {
            name.strip("_"): round(statistics.median(times), 1)
            for name, times in findings.seconds.items()
        },
        "images checked": findings.images,
        "places in the queue given": findings.told,
        "highest place": findings.places,
        "server's memory in MiB": {"loaded": round(before), "most": round(memory)},
        "faults": findings.faults,
    }
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
