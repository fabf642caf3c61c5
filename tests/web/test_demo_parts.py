"""What the demo page is made of, without a browser."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin

from diffjscc.data.images import save_image
from diffjscc.web import jobs
from diffjscc.web.server import free_port
from diffjscc.web.settings import DemoSettings, airtime_ms
from diffjscc.web.shown import Files, Shown, as_png
from diffjscc.web.uploads import (
    LARGEST_FILE,
    LONGEST_SIDE,
    example_names,
    example_path,
    read_upload,
)
from diffjscc.web.visits import Visits


def test_settings_survive_the_address() -> None:
    settings = DemoSettings(snr=-3.5, rate="1/32", channel="rayleigh", steps=4, example="chelsea")
    query = dict(pair.split("=") for pair in settings.query.replace("%2F", "/").split("&"))
    assert DemoSettings.from_query(query) == settings
    assert DemoSettings().query == ""


@pytest.mark.parametrize(
    "query",
    [
        {"snr": "nan"},
        {"snr": "1e9"},
        {"steps": "0"},
        {"seed": "-1"},
        {"rival": "<script>"},
        {"channel": "x"},
    ],
)
def test_broken_addresses_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="the page's address"):
        DemoSettings.from_query(query)


def test_strange_keys_in_the_address_are_passed_over() -> None:
    assert DemoSettings.from_query({"utm_source": "x", "snr": "7"}).snr == 7


def test_commands_name_what_the_page_shows() -> None:
    settings = DemoSettings(snr=7, rate="1/64", channel="rician", steps=4)
    command = settings.command("my photo.jpg")
    assert command == (
        "diffjscc transmit 'my photo.jpg' --snr 7 --rate 1/64 --seed 0 --channel rician "
        "--scheme diffjscc --scheme bpg-ldpc --downsample --steps 4 -o out"
    )
    alone = DemoSettings(refine=False, rival="none").command("a.png")
    assert alone == ("diffjscc transmit a.png --snr 1 --rate 1/128 --seed 0 --refiner none -o out")


def test_airtime() -> None:
    assert airtime_ms(2400, 1000) == 2.4


def test_examples_fit_and_can_be_read() -> None:
    assert len(example_names()) == 6
    for name in example_names():
        source, note = read_upload(example_path(name))
        assert max(source.pixels.shape) <= LONGEST_SIDE
        assert "smaller" not in note


def test_large_uploads_are_made_smaller(tmp_path: Path) -> None:
    save_image(torch.rand(3, 300, 2000), tmp_path / "wide.png")
    source, note = read_upload(tmp_path / "wide.png")
    assert source.pixels.shape == (3, 115, 768)
    assert note == "2000x300, made smaller to 768x115 for this page"


def test_portraits_are_made_smaller_the_way_they_are_turned(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (1600, 1200), "red").save(tmp_path / "phone.jpg", exif=turned)
    source, note = read_upload(tmp_path / "phone.jpg")
    assert source.size == (768, 576)
    assert note == "1200x1600, made smaller to 576x768 for this page"


def test_files_for_browsers_are_written_once_and_come_back(tmp_path: Path) -> None:
    files = Files(tmp_path / "shown")
    png = as_png(torch.rand(3, 20, 30))
    path = files.path(png, "digital link (bpg-ldpc)")
    assert path is not None
    assert Path(path).name == "digital.png"
    assert Path(path).read_bytes() == png
    written = Path(path).stat().st_ino
    assert files.path(png, "digital link") == path
    assert Path(path).stat().st_ino == written
    Path(path).unlink()  # as the server does after a while
    assert files.path(png, "digital link") == path
    assert Path(path).read_bytes() == png
    assert files.path(as_png(torch.rand(3, 20, 30)), "digital link") != path
    assert Files(tmp_path / "shown").path(png, "digital link") != path  # not to be guessed
    assert files.path(None, "codec") is None
    assert not list(tmp_path.rglob("*unfinished*"))


def png_bomb(path: Path) -> None:
    """A file of few bytes that says that it holds 900 million pixels."""
    Image.new("1", (30000, 30000)).save(path, optimize=True)


def long_text(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (LARGEST_FILE + 1))
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)


def text_and_bomb(path: Path) -> None:
    """A PNG of many pixels that Pillow does not open for the length of its text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)
    Image.new("1", (11_000, 11_000)).save(path, pnginfo=info, optimize=True)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("bomb.png", png_bomb, "million pixels"),
        ("text.png", text_and_bomb, "121 million pixels"),
        ("huge.png", long_text, "MB"),
        ("page.svg", lambda p: p.write_text("<svg><script>x</script></svg>"), "not a readable"),
        ("page.html", lambda p: p.write_text("<html></html>"), "not a readable"),
        ("cut.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "cut.png"),
        ("empty.jpg", lambda p: p.write_bytes(b""), "empty"),
        ("dot.png", lambda p: Image.new("RGB", (2, 2)).save(p), "at least 16 pixels"),
    ],
)
def test_hostile_uploads_are_refused_in_words(
    tmp_path: Path, name: str, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / name)
    with pytest.raises((ValueError, OSError), match=words):
        read_upload(tmp_path / name)


def test_jobs_give_steps_and_then_the_result() -> None:
    def work(progress: jobs.Progress) -> str:
        for step in range(3):
            progress(step + 1, 3)
        return "image"

    *steps, last = jobs.Jobs().run(work)
    assert [(step.done, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert last == jobs.Done("image")


def endless() -> tuple[threading.Event, Callable[[jobs.Progress], None]]:
    """Work of many steps, and the event that it sets when it ends."""
    ended = threading.Event()

    def work(progress: jobs.Progress) -> None:
        try:
            for step in range(10_000):
                progress(step, 10_000)
        finally:
            ended.set()

    return ended, work


def test_closing_a_job_cancels_it_at_its_next_step() -> None:
    ended, work = endless()
    running = jobs.Jobs().run(work)
    assert isinstance(next(running), jobs.Step)
    running.close()
    assert ended.wait(5)


def test_a_job_that_nobody_looks_at_ends() -> None:
    ended, work = endless()
    running = jobs.Jobs(patience=0.3).run(work)
    next(running)
    assert ended.wait(5)


def test_all_work_ends_when_the_server_stops() -> None:
    ended, work = endless()
    all_work = jobs.Jobs()
    running = all_work.run(work)
    assert isinstance(next(running), jobs.Step)
    all_work.close()
    assert ended.is_set()
    assert len(list(running)) <= 1  # the one that waited


def test_jobs_have_a_time_limit() -> None:
    def work(progress: jobs.Progress) -> None:
        while True:
            time.sleep(0.01)
            progress(1, 2)

    with pytest.raises(jobs.TimeLimitError, match="fewer steps or a smaller image"):
        list(jobs.Jobs(time_limit=0.1).run(work))


def test_errors_of_a_job_reach_the_one_who_waits() -> None:
    def work(progress: jobs.Progress) -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        list(jobs.Jobs().run(work))


def test_ports() -> None:
    port = free_port("127.0.0.1", 0)
    assert free_port("127.0.0.1", port) == port
    for number in (-1, 65536):
        with pytest.raises(ValueError, match="out of range"):
            free_port("127.0.0.1", number)


def test_a_port_in_use_is_named() -> None:
    import socket  # noqa: PLC0415

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{number}"):
            free_port("127.0.0.1", number)


def test_hosts_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match=r"no\.such\.host\.invalid"):
        free_port("no.such.host.invalid", 0)


def test_outage_is_written_in_the_table() -> None:
    from diffjscc.web.tables import metrics_table  # noqa: PLC0415

    blank = Shown("<b>link</b>", words="cannot send it: too long")
    text = metrics_table([blank], (), 1000)
    assert "&lt;b&gt;link&lt;/b&gt;" in text
    assert "cannot send it: too long" in text
    assert blank.caption == "<b>link</b>: cannot send it"


def test_a_new_request_ends_the_earlier_ones_of_its_visitor_alone() -> None:
    visits = Visits()
    first, other = visits.renew("a"), visits.renew("b")
    assert visits.is_latest("a", first)
    second = visits.renew("a")
    assert not visits.is_latest("a", first)
    assert visits.is_latest("a", second)
    assert visits.is_latest("b", other)
