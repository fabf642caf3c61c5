"""Figures show what the results hold: the data of their lines, not their pixels, are looked at."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from diffjscc.choices import SchemeKind
from diffjscc.cli import app
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import Results, read_results
from diffjscc.evaluation.statistics import summarise
from diffjscc.report.figures import make_plots, write_figures
from diffjscc.report.means import as_csv
from diffjscc.report.sheets import caption_sheets
from diffjscc.report.styles import colour_of, styles_of
from toy_results import IMAGES, SNRS_DB, toy_record, toy_records, toy_results, with_metrics

SIX = tuple(f"kodim{number:02}" for number in range(1, 7))


def toy(
    folder: Path, rows: list[Record] | None = None, figure: str | None = None
) -> tuple[Results, dict[str, Figure]]:
    results = read_results(toy_results(folder, rows, figure))
    return results, dict(make_plots(summarise([results]), figure))


def panel(figure: Figure, label: str) -> Axes:
    """The one with this figure of merit."""
    (found,) = [
        ax
        for ax in figure.axes
        if label in (ax.get_ylabel().replace("\n", " "), ax.get_xlabel().replace("\n", " "))
    ]
    return found


def lines(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): list(zip(*map(list, line.get_data()), strict=True))
        for line in ax.get_lines()
    }


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_over_the_rate_at_each_snr_and_over_the_snr_at_each_rate(tmp_path: Path) -> None:
    _, plots = toy(tmp_path)
    expected = ["over-rate-1dB", "over-rate-4dB", "over-rate-7dB"]
    assert list(plots) == [*expected, "over-snr-1-128", "over-snr-1-64"]
    at_4db = lines(panel(plots["over-rate-4dB"], "PSNR / dB"))
    # 20 dB, and 0.5 for the SNR, 0.1 for the second image and 0.05 for the draws.
    assert at_4db == {
        "deepjscc": [(1 / 128, pytest.approx(21.65)), (1 / 64, pytest.approx(22.65))],
        "diffjscc": [(1 / 128, pytest.approx(20.65)), (1 / 64, pytest.approx(21.65))],
    }
    over_snr = lines(panel(plots["over-snr-1-64"], "LPIPS"))
    expected_lpips = [0.37, 0.32, 0.27]
    assert [x for x, _ in over_snr["diffjscc"]] == list(SNRS_DB)
    assert [y for _, y in over_snr["diffjscc"]] == pytest.approx(expected_lpips)


def test_every_label_stands_in_the_legend(tmp_path: Path) -> None:
    """Those that begin with an underscore, too, which matplotlib would leave out."""
    names = {"deepjscc": "_mine", "diffjscc": "__"}
    rows = [replace(row, scheme=names[row.scheme]) for row in toy_records()]
    for figure in toy(tmp_path, rows)[1].values():
        (legend,) = figure.legends
        assert {text.get_text() for text in legend.get_texts()} >= {"_mine", "__"}


def test_bands_are_the_intervals(tmp_path: Path) -> None:
    results, plots = toy(tmp_path, toy_records(SIX))
    ax = panel(plots["over-snr-1-128"], "PSNR / dB")
    cells = {one.point: one for one in summarise([results])}
    for band, scheme in zip(ax.collections, ("deepjscc", "diffjscc"), strict=True):
        corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices.tolist()}
        for snr_db in SNRS_DB:
            psnr = cells[scheme, "awgn", "1/128", snr_db].estimates["psnr"]
            assert {(snr_db, round(psnr.low, 6)), (snr_db, round(psnr.high, 6))} <= corners


def test_no_band_of_fewer_than_five_images(tmp_path: Path) -> None:
    for count in (4, 5):
        rows = toy_records(SIX[:count])
        _, plots = toy(tmp_path / str(count), rows)
        figure = plots["over-snr-1-128"]
        assert bool(panel(figure, "PSNR / dB").collections) == (count == 5)
        assert ("95 % confidence" in figure.get_suptitle()) == (count == 5)


def test_intervals_stay_within_what_a_metric_can_be(tmp_path: Path) -> None:
    """MS-SSIM of 0.2 to 1 has an interval up to 1.3, LPIPS of 0 to 0.9 one below 0."""
    rows = [
        with_metrics(
            row, ms_ssim=0.2 if row.image == SIX[0] else 1.0, lpips=0.9 * (row.image == SIX[0])
        )
        for row in toy_records(SIX)
    ]
    results, plots = toy(tmp_path, rows)
    (one, *_) = summarise([results])
    assert one.estimates["ms_ssim"].high > 1
    assert one.estimates["lpips"].low < 0
    for name, bound in (("MS-SSIM", 1.0), ("LPIPS", 0.0)):
        for band in panel(plots["over-snr-1-128"], name).collections:
            ends = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
            assert (ends.max() if bound else ends.min()) == bound


def test_the_means_fill_half_of_an_axis(tmp_path: Path) -> None:
    """However far images are apart, schemes that differ by a dB are seen to differ."""
    rows = [
        with_metrics(row, psnr=20 + 5 * SIX.index(row.image) + (row.scheme == "deepjscc"))
        for row in toy_records(SIX)
    ]
    _, plots = toy(tmp_path, rows)
    low, high = panel(plots["over-snr-1-128"], "PSNR / dB").get_ylim()
    assert 1 < high - low < 2.2


def test_no_kernel_distance_of_a_few_patches(tmp_path: Path) -> None:
    results, _ = toy(tmp_path)
    few = tuple(replace(one, patches=8, kernel=-243.0) for one in results.distances)
    summaries = summarise([replace(results, distances=few)])
    labels = [ax.get_ylabel() for ax in dict(make_plots(summaries, None))["over-rate-1dB"].axes]
    assert "Fréchet distance\n(SqueezeNet)" in labels
    assert not [label for label in labels if "kernel" in label]
    assert "kernel" not in as_csv(summaries)


def test_a_scheme_has_one_colour_in_all_figures() -> None:
    kinds = [kind for kind in get_args(SchemeKind) if kind != "custom"]
    alone = {kind: styles_of([kind])[kind].colour for kind in kinds}
    together = styles_of(["my_module:make", *reversed(kinds)])
    assert {kind: together[kind].colour for kind in kinds} == alone
    main = ("deepjscc", "diffjscc", "adv", "ddnm", "bpg-ldpc", "bpg-capacity")
    assert len({alone[kind] for kind in main}) == len(main)
    assert colour_of("DeepJSCC-adv, α1") == alone["adv"]
    assert colour_of("bpg-ldpc, bpsk 2/3") == alone["bpg-ldpc"]
    looks = list(together.values())
    assert len(set(looks)) == len(looks)  # those of one colour differ in marker or dash


def test_schemes_keep_their_colours_when_others_cannot_send(tmp_path: Path) -> None:
    summaries = summarise([read_results(toy_results(tmp_path))])
    unsent = [
        replace(summary, absent=1) if summary.scheme == "deepjscc" else summary
        for summary in summaries
    ]
    colours = {}
    for name, cells in (("all", summaries), ("fewer", unsent)):
        ax = panel(dict(make_plots(cells, None))["over-rate-4dB"], "PSNR / dB")
        colours[name] = {str(line.get_label()): line.get_color() for line in ax.get_lines()}
    assert colours["fewer"]["diffjscc"] == colours["all"]["diffjscc"]
    assert "deepjscc" not in colours["fewer"]


def test_axes_say_what_they_show(tmp_path: Path) -> None:
    _, plots = toy(tmp_path)
    figure = plots["over-rate-1dB"]
    labels = [ax.get_ylabel().replace("\n", " ") for ax in figure.axes]
    assert labels == [
        "PSNR / dB",
        "MS-SSIM",
        "LPIPS",
        "NIQE",
        "Fréchet distance (SqueezeNet)",
        "kernel distance (SqueezeNet)",
    ]
    directions = [ax.get_title(loc="right") for ax in figure.axes]
    assert directions == ["↑ higher is better"] * 2 + ["↓ lower is better"] * 4
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["1/128", "1/64"]
    assert figure.axes[0].get_xscale() == "log"
    assert legend(figure) == ["deepjscc", "diffjscc"]
    assert "SNR 1 dB" in figure.get_suptitle()


@pytest.mark.parametrize("name", ["over-rate", "schemes"])
@pytest.mark.parametrize("panels", [1, 6])
def test_nothing_is_cut_off_or_overlaps(panels: int, name: str, tmp_path: Path) -> None:
    """Names as long as a sentence would be; text stays in the figure, panels apart."""
    long = "diffjscc, trained on photographs without the SNR, sampled by DPM-Solver++ in 20 steps"
    rows = [replace(row, channel="rician, K = 4, transmitter CSI") for row in toy_records()]
    rows = [row for row in rows if row.nominal_snr_db == 1]
    rows += [replace(row, scheme=long) for row in rows if row.scheme == "diffjscc"]
    if name == "schemes":
        rows = [row for row in rows if row.nominal_rate == "1/64"]
    results = read_results(toy_results(tmp_path, rows))
    if panels == 1:
        rows = [with_metrics(row, ms_ssim=None, lpips=None, niqe=None) for row in rows]
        results = replace(results, records=tuple(rows), distances=())
    figure = dict(make_plots(summarise([results]), None))[name]
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [text.get_window_extent() for text in figure.texts]
    found = [box for box in boxes if box is not None]
    assert len(found) == panels + len(figure.legends) + len(figure.texts)
    for number, box in enumerate(found):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in found[:number])


def test_a_figure_of_the_paper_keeps_to_its_axis(tmp_path: Path) -> None:
    _, plots = toy(tmp_path, figure="fig4")
    assert list(plots) == ["fig4-1-128", "fig4-1-64"]
    _, plots = toy(tmp_path / "one", [row for row in toy_records() if row.nominal_rate == "1/64"])
    assert list(plots) == ["over-snr"]


def test_initial_images_are_shown_where_no_scheme_shows_them(tmp_path: Path) -> None:
    painted = [row for row in toy_records() if row.scheme == "diffjscc"]
    other = [
        replace(with_metrics(row, psnr=row.metrics["psnr"] - 1), scheme="other") for row in painted
    ]
    _, plots = toy(tmp_path, painted + other)
    found = lines(panel(plots["over-snr-1-128"], "PSNR / dB"))
    # One line for both schemes, since they were given the same images.
    assert list(found) == ["diffjscc", "other", "initial image"]
    assert found["initial image"][0] == (1.0, pytest.approx(20.65))
    assert "initial image" not in lines(
        panel(plots["over-snr-1-128"], "Fréchet distance (SqueezeNet)")
    )


def stepped(alone: bool) -> list[Record]:
    """2, 10 and 50 steps of two samplers at two SNRs; fewer steps have a better PSNR."""
    rows = [
        with_metrics(
            replace(
                toy_record(f"{name}, {steps} steps", image, snr_db=snr_db, steps=steps),
                seconds=steps / 10,
            ),
            psnr=20 + snr_db - steps / 100,
            psnr_initial=20.5 + snr_db,
        )
        for name in ("diffjscc", "diffjscc, DDPM")
        for steps in (50, 2, 10)
        for snr_db in (1.0, 7.0)
        for image in IMAGES
    ]
    return rows + [toy_record("deepjscc", image, psnr=23) for image in IMAGES if alone]


def test_over_steps(tmp_path: Path) -> None:
    _, plots = toy(tmp_path, stepped(alone=True), "fig7")
    assert list(plots) == ["fig7"]
    found = lines(panel(plots["fig7"], "PSNR / dB"))
    assert set(found) == {
        f"{name}, {snr_db} dB" for name in ("diffjscc", "diffjscc, DDPM") for snr_db in (1, 7)
    } | {"deepjscc, 1 dB"}
    # The scheme without steps is a level line.
    assert found["deepjscc, 1 dB"] == [(2, 23), (50, 23)]
    assert found["diffjscc, 7 dB"] == [
        (2, pytest.approx(26.98)),
        (10, pytest.approx(26.9)),
        (50, pytest.approx(26.5)),
    ]
    seconds = lines(panel(plots["fig7"], "time / s"))
    assert seconds["diffjscc, 1 dB"] == [(n, pytest.approx(n / 10)) for n in (2, 10, 50)]


def test_over_steps_with_the_initial_image(tmp_path: Path) -> None:
    _, plots = toy(tmp_path, stepped(alone=False), "fig7")
    found = lines(panel(plots["fig7"], "PSNR / dB"))
    assert found["initial image, 7 dB"] == [(2, 27.5), (50, 27.5)]
    assert len(found) == 6


def test_a_point_per_scheme_where_nothing_varies(tmp_path: Path) -> None:
    rows = [row for row in toy_records(SIX) if row.point[2:] == ("1/64", 7.0)]
    results, plots = toy(tmp_path, rows)
    assert list(plots) == ["schemes"]
    ax = panel(plots["schemes"], "PSNR / dB")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["deepjscc", "diffjscc"]
    for number, one in enumerate(summarise([results])):
        bar = ax.containers[number]
        point, _, (interval,) = bar.lines
        psnr = one.estimates["psnr"]
        assert point.get_data()[0][0] == psnr.mean
        ends = interval.get_segments()[0][:, 0]
        assert ends.tolist() == pytest.approx([psnr.low, psnr.high])


def test_files_are_the_same_again_and_parse(tmp_path: Path) -> None:
    rows = [row for row in toy_records() if row.nominal_snr_db == 1.0]
    results, _ = toy(tmp_path / "in", rows, "fig3")
    formats = ("png", "svg", "pdf")
    first, second = (write_figures([results], tmp_path / name, formats) for name in ("one", "two"))
    assert [path.name for path in first] == ["fig3.png", "fig3.svg", "fig3.pdf"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert ElementTree.parse(first[1]).getroot().tag.endswith("svg")
    assert b"<dc:date>" not in first[1].read_bytes()
    assert Image.open(first[0]).width == 1440


def test_a_sheet_of_kept_images(tmp_path: Path) -> None:
    """Original and deepjscc, then diffjscc's initial and final image, from left to right."""
    results, _ = toy(tmp_path / "in", figure="fig5")
    (path,) = write_figures([results], tmp_path / "out")
    assert path.name == "fig5.png"
    sheet = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    (kept,) = [one for one in results.kept if one.scheme == "diffjscc"]
    columns = np.split(sheet, 4, axis=1)
    for column, file in zip(columns, (kept.original, None, kept.initial, kept.final), strict=True):
        if file is not None:
            seen = column.reshape(-1, 3)
            image = np.asarray(Image.open(results.folder / file), dtype=float)
            # The image's mean colour, without the paper's white and the letters' black.
            inked = seen[(seen.max(axis=1) < 250) & (seen.min(axis=1) > 5)]
            assert inked.mean(axis=0) == pytest.approx(image.mean(axis=(0, 1)), abs=12)


def test_a_sheet_has_as_many_dots_as_its_images_have_pixels(tmp_path: Path) -> None:
    results, _ = toy(tmp_path / "in", figure="fig5")
    (small,) = write_figures([results], tmp_path / "out")
    assert Image.open(small).width == 1440  # 200 to the inch are the fewest
    for kept in results.kept:
        for file in (kept.original, kept.final, kept.initial):
            if file is not None:
                image = Image.open(results.folder / file)
                image.resize((600, 400)).save(results.folder / file)
    (large,) = write_figures([results], tmp_path / "out")
    assert Image.open(large).width == pytest.approx(7.2 * 600 / (7.2 / 4 - 0.06), abs=8)
    assert write_figures([results], tmp_path / "none", sheets=False) == []


def test_an_initial_image_is_not_shown_twice(tmp_path: Path) -> None:
    """Where it is another scheme's final one, there are three columns and not four."""
    results, _ = toy(tmp_path / "in", figure="fig1")
    alone, painted = results.kept
    same = replace(results, kept=(alone, replace(painted, initial=alone.final)))
    (four,) = write_figures([results], tmp_path / "four")
    (three,) = write_figures([same], tmp_path / "three")
    # The same width for fewer columns: larger images.
    assert Image.open(three).height > Image.open(four).height


def test_tables_of_captions(tmp_path: Path) -> None:
    words = "a red door with a rusty lock and a white knob, in the sun"
    told = [
        replace(toy_record("told", image), caption=f"{words} {n}")
        for n, image in enumerate([f"kodim{n:02}" for n in range(1, 41)])
    ]
    blind = [toy_record("blind", row.image) for row in told]
    results, _ = toy(tmp_path / "in", told + blind, "fig8")
    written = [path.name for path in write_figures([results], tmp_path / "out")]
    assert written[:4] == ["fig8.png", "fig8.pdf", "fig8-captions.png", "fig8-captions.pdf"]
    assert written[4:] == ["fig8-captions-2.png", "fig8-captions-2.pdf"]
    assert caption_sheets([read_results(toy_results(tmp_path / "b"))], tmp_path, "none") == []


def test_refusals(tmp_path: Path) -> None:
    results, _ = toy(tmp_path / "in", figure="fig5")
    with pytest.raises(ValueError, match="kept no images"):
        write_figures([replace(results, kept=())], tmp_path / "out")
    with pytest.raises(ValueError, match="no records"):
        write_figures([replace(results, records=())], tmp_path / "out")
    with pytest.raises(ValueError, match="no results"):
        write_figures([], tmp_path / "out")


def test_plot_from_the_command_line(tmp_path: Path) -> None:
    rows = [row for row in toy_records() if row.point[2:] == ("1/64", 7.0)]
    folder = toy_results(tmp_path / "in", rows)
    result = CliRunner().invoke(app, ["plot", str(folder)])
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == ["schemes.pdf", "schemes.png"]
    words = ["plot", str(folder), "-o", str(tmp_path / "out"), "--format", "svg"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["schemes.svg"]
    result = CliRunner().invoke(app, [*words[:-1], "psd"])
    assert result.exit_code == 2
    assert "--format psd is not known; did you mean" in " ".join(result.stderr.split())


def test_plot_of_no_results(tmp_path: Path) -> None:
    def refused(words: str) -> None:
        result = CliRunner().invoke(app, ["plot", str(tmp_path / "in")])
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())
        assert "Traceback" not in result.output

    refused("holds no results")
    folder = toy_results(tmp_path / "in")
    setup = json.loads((folder / "setup.json").read_text())
    (folder / "setup.json").write_text(json.dumps(setup | {"format": 99}))
    refused("format 99")
    (folder / "setup.json").write_text(json.dumps(setup))
    (folder / "rows.jsonl").unlink()
    refused("not finished")
    (folder / "rows.jsonl").write_text('{"psnr": 3}\n')
    refused("scheme: Field required")
