"""Streams of samples: ZeroMQ sockets as GNU Radio's PUB and SUB blocks have them, and devices.

    zmq://*:5555          binds a socket: PUB to send, SUB to receive
    zmq://host:5555       connects to one
    soapy://driver=rtlsdr a device by SoapySDR's arguments

Messages are raw complex64 samples without tags.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio.captures import FileCapture

if TYPE_CHECKING:
    import zmq

Complex = NDArray[np.complex64]

ZMQ, SOAPY = "zmq://", "soapy://"
MESSAGE = 4096  # samples
_IDLE_SECONDS = 1.5  # without a message after which a stream has ended
_SUBSCRIBER_SECONDS = 30.0
_SAMPLE = 8  # bytes


def is_endpoint(name: str) -> bool:
    """Return whether a name is that of a stream or device."""
    return name.startswith((ZMQ, SOAPY))


def send_stream(
    endpoint: str, samples: Complex, sample_rate: float, centre_frequency: float | None
) -> None:
    """Send samples; to a socket as soon as somebody listens.

    Raises:
        ValueError: an endpoint that cannot be used, or a package that is missing.
        OSError: nobody listens within 30 seconds.
    """
    if endpoint.startswith(SOAPY):
        _send_to_device(endpoint, samples, sample_rate, centre_frequency)
        return
    zmq = _zmq(endpoint)
    # XPUB is a PUB that sees who subscribes: what is sent before that is lost.
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, 10_000)
        _attach(socket, endpoint)
        if not socket.poll(1000 * _SUBSCRIBER_SECONDS):
            raise TimeoutError(
                f"nobody listened to {endpoint} within {_SUBSCRIBER_SECONDS:g} s; start the "
                "receiver first"
            )
        socket.recv()
        for start in range(0, len(samples), MESSAGE):
            socket.send(samples[start : start + MESSAGE].astype("<c8").tobytes())


@contextmanager
def record_stream(
    endpoint: str, sample_rate: float, centre_frequency: float | None, seconds: float
) -> Iterator[FileCapture]:
    """Record a stream into a temporary file until it ends, or for `seconds`.

    Raises:
        ValueError: an endpoint that cannot be used, a package that is missing, or no sample.
        OSError: the disk is full.
    """
    if not 0 < seconds < 1e6:
        raise ValueError(f"--seconds is {seconds}; it must be above 0 and below 1e6")
    with tempfile.TemporaryDirectory(prefix="diffjscc-") as folder:
        path = Path(folder) / "stream.cf32"
        with path.open("wb") as file:
            if endpoint.startswith(SOAPY):
                _record_device(endpoint, file, sample_rate, centre_frequency, seconds)
            else:
                _record_socket(endpoint, file, seconds)
        if path.stat().st_size < _SAMPLE:
            raise ValueError(f"no sample came from {endpoint} within {seconds:g} s; is it sending?")
        yield FileCapture(path, "cf32_le")


def _record_socket(endpoint: str, file: IO[bytes], seconds: float) -> None:
    zmq = _zmq(endpoint)
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        _attach(socket, endpoint)
        end, wait = time.monotonic() + seconds, seconds
        while (left := min(wait, end - time.monotonic())) > 0 and socket.poll(1000 * left):
            file.write(socket.recv())
            wait = _IDLE_SECONDS


def _attach(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind or connect a socket."""
    import zmq  # noqa: PLC0415

    address = "tcp://" + endpoint.removeprefix(ZMQ)
    try:
        socket.bind(address) if endpoint.startswith(ZMQ + "*") else socket.connect(address)
    except zmq.ZMQError as error:
        raise ValueError(f"{endpoint} cannot be used: {error}; write zmq://HOST:PORT") from error


def _zmq(endpoint: str) -> Any:  # noqa: ANN401 - a module
    try:
        import zmq  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            f"{endpoint}: streams need the package pyzmq (pip install 'diffjscc[radio]')"
        ) from error
    return zmq


def _soapy(endpoint: str) -> Any:  # noqa: ANN401 - a module
    try:
        import SoapySDR  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            f"{endpoint}: devices need SoapySDR with its Python module, which systems package "
            "(Debian: python3-soapysdr); or record with your own tools and give the file"
        ) from error
    return SoapySDR


def _device(
    endpoint: str, direction: str, sample_rate: float, centre_frequency: float | None
) -> tuple[Any, Any, Any]:
    """Open a device; returns SoapySDR, the device and its active stream."""
    if centre_frequency is None:
        raise ValueError(f"{endpoint}: a device needs a carrier; give --center-frequency")
    soapy = _soapy(endpoint)
    way = getattr(soapy, f"SOAPY_SDR_{direction}")
    try:
        device = soapy.Device(endpoint.removeprefix(SOAPY))
        device.setSampleRate(way, 0, sample_rate)
        device.setFrequency(way, 0, centre_frequency)
        stream = device.setupStream(way, soapy.SOAPY_SDR_CF32)
    except RuntimeError as error:  # SoapySDR's own
        raise ValueError(f"{endpoint} cannot be used: {error}") from error
    device.activateStream(stream)
    return soapy, device, stream


def _send_to_device(
    endpoint: str, samples: Complex, sample_rate: float, centre_frequency: float | None
) -> None:
    _, device, stream = _device(endpoint, "TX", sample_rate, centre_frequency)
    try:
        sent = 0
        while sent < len(samples):
            part = np.ascontiguousarray(samples[sent : sent + MESSAGE])
            status = device.writeStream(stream, [part], len(part))
            if status.ret < 0:
                raise OSError(f"{endpoint} stopped after {sent:,} samples: error {status.ret}")
            sent += status.ret
    finally:
        device.deactivateStream(stream)
        device.closeStream(stream)


def _record_device(
    endpoint: str,
    file: IO[bytes],
    sample_rate: float,
    centre_frequency: float | None,
    seconds: float,
) -> None:
    _, device, stream = _device(endpoint, "RX", sample_rate, centre_frequency)
    buffer = np.empty(1 << 16, np.complex64)
    try:
        left = int(seconds * sample_rate)
        while left > 0:
            status = device.readStream(stream, [buffer], min(left, len(buffer)))
            if status.ret < 0:
                raise OSError(f"{endpoint} stopped: error {status.ret}")
            file.write(buffer[: status.ret].tobytes())
            left -= status.ret
    finally:
        device.deactivateStream(stream)
        device.closeStream(stream)
