"""Channel of GNU Radio between `diffjscc send` and `diffjscc receive`, without a screen.

    diffjscc send photo.png -o frame.cf32
    python3 examples/gnuradio_loop.py frame.cf32 air.cf32 --snr 10 --frequency-offset 0.001
    diffjscc receive air.cf32 --sample-rate 1e6 -o received

or over sockets, each line in a terminal of its own, the receiver first:

    diffjscc receive zmq://127.0.0.1:5556 -o received
    python3 examples/gnuradio_loop.py zmq://127.0.0.1:5555 zmq://*:5556 --noise-voltage 0.05
    diffjscc send photo.png -o 'zmq://*:5555'

Run it by the Python that has GNU Radio 3.10, the system's (Debian: package gnuradio).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from gnuradio import blocks, channels, gr, zeromq

USED = 52 / 64  # share of the subcarriers of ofdm-64 that carry power
ZMQ = "zmq://"


def cell_energy(path: Path) -> float:
    """Es of the frames in a file: mean power where it is not silent, over the share of the band."""
    power = np.abs(np.fromfile(path, np.complex64)) ** 2
    return float(power[power > 0].mean()) / USED


def source(name: str) -> gr.basic_block:
    """Block that gives samples, from a file or a SUB socket that connects."""
    if name.startswith(ZMQ):
        return zeromq.sub_source(gr.sizeof_gr_complex, 1, "tcp://" + name.removeprefix(ZMQ), 100)
    return blocks.file_source(gr.sizeof_gr_complex, name, False)


def sink(name: str) -> gr.basic_block:
    """Block that takes samples, into a file or a PUB socket that binds."""
    if name.startswith(ZMQ):
        return zeromq.pub_sink(gr.sizeof_gr_complex, 1, "tcp://" + name.removeprefix(ZMQ), 100)
    return blocks.file_sink(gr.sizeof_gr_complex, name, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="file of complex64 samples, or zmq://HOST:PORT")
    parser.add_argument("sink", help="the same")
    parser.add_argument("--snr", type=float, help="Es/N0 in dB of ofdm-64, with a file as source")
    parser.add_argument("--noise-voltage", type=float, default=0.0, help="root of N0")
    parser.add_argument("--frequency-offset", type=float, default=0.0, help="cycles per sample")
    parser.add_argument("--epsilon", type=float, default=1.0, help="ratio of the sample clocks")
    parser.add_argument("--taps", type=complex, nargs="+", default=[1.0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0, help="with sockets: how long")
    arguments = parser.parse_args()
    noise = arguments.noise_voltage
    if arguments.snr is not None:
        noise = (cell_energy(Path(arguments.source)) * 10 ** (-arguments.snr / 10)) ** 0.5
    graph = gr.top_block()
    channel = channels.channel_model(
        noise, arguments.frequency_offset, arguments.epsilon, arguments.taps, arguments.seed, False
    )
    graph.connect(source(arguments.source), channel, sink(arguments.sink))
    if ZMQ in arguments.source + arguments.sink:
        graph.start()
        time.sleep(arguments.seconds)
        graph.stop()
        graph.wait()
    else:
        graph.run()


if __name__ == "__main__":
    main()
