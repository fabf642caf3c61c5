"""Tables in 80 columns and their exports: no column, name or digit is lost."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from diffjscc.cli import app
from diffjscc.cli.tables import Column, print_means, print_metrics, print_table
from diffjscc.evaluation.results import read_results
from diffjscc.evaluation.statistics import summarise
from diffjscc.metrics.catalogue import METRICS
from diffjscc.report.means import as_csv, as_latex, columns_of, latex_text, padding_note
from toy_results import toy_record, toy_records, toy_results

LONG = "a scheme with a name of many words, and then some more: my_module:make_this_scheme"


def console(width: int = 80) -> Console:
    return Console(width=width, file=io.StringIO(), record=True)


def printed(one: Console) -> str:
    text = one.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= one.width
    return text


def letters(text: str) -> str:
    return re.sub(r"[^\w.:/]", "", text)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("values", [1, 5, 12])
def test_no_column_and_no_name_is_cut(values: int, width: int) -> None:
    names = [Column("name", ["kodim01.png", "x" * 70]), Column("scheme", [LONG, "b"])]
    numbers = [Column(f"metric{n}", [f"{n}.12345", f"-{n}.5"]) for n in range(values)]
    one = console(width)
    print_table(one, names, numbers, "caption")
    text = printed(one)
    for number in numbers:
        assert number.heading in text
        assert all(cell in text for cell in number.cells)
    assert text.count("x") >= 70
    for word in ("kodim01.png", "caption"):
        assert word in text or width < 80


def test_transmissions_in_80_columns() -> None:
    infos = [METRICS[name].info for name in ("psnr", "ms_ssim", "lpips")]
    one = console()
    print_metrics(one, [toy_record(), toy_record(image="dir/kodim24.png")], infos)
    text = printed(one)
    assert text.count("PSNR/dB") == 1  # a single table
    assert "kodim24.png" in text
    several = [
        replace(toy_record(LONG, f"{'n' * 90}.png", rate, snr_db), channel=channel)
        for rate in ("1/128", "1/16")
        for snr_db in (-7.0, 13.0)
        for channel in ("awgn", "rician, K = 4")
    ]
    one = console()
    print_metrics(one, several, infos, compared=True)
    text = printed(one)
    for heading in ("image", "scheme", "channel", "cpp", "SNR/dB", "K", "PSNR/dB", "LPIPS", "s"):
        assert re.search(rf"\b{re.escape(heading)}\b", text)
    assert text.count("n") >= 90 * len(several)


def test_means_in_80_columns_and_in_files(tmp_path: Path) -> None:
    rows = [replace(row, scheme=f"{row.scheme} & 100 %") for row in toy_records()]
    summaries = summarise([read_results(toy_results(tmp_path / "in", rows))])
    one = console()
    print_means(one, summaries)
    text = printed(one)
    for column in columns_of(summaries):
        assert letters(column.label.split(" ")[0]) in letters(text)
        for summary in summaries:
            assert column.text(summary).split(" ")[0] in text
    table = list(csv.DictReader(io.StringIO(as_csv(summaries))))
    assert len(table) == len(summaries) == 12
    for row, summary in zip(table, summaries, strict=True):
        assert row["scheme"] == summary.scheme
        assert (row["rate"], float(row["snr_db"])) == (summary.nominal_rate, summary.nominal_snr_db)
        assert float(row["psnr"]) == summary.estimates["psnr"].mean
        assert float(row["psnr_half_width"]) == summary.estimates["psnr"].half_width
        assert (row["images"], row["transmissions"]) == ("3", "6")
    latex = as_latex(summaries)
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 13
    assert {line.count(" & ") for line in body} == {body[0].count(" & ")}
    columns = latex.partition(r"\begin{tabular}{")[2].partition("}")[0]
    assert len(columns) == 1 + body[0].count(" & ")
    assert r"deepjscc \& 100 \%" in latex
    assert latex_text("a_b\n{c}^2") == r"a\_b \{c\}\textasciicircum{}2"


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    folder = toy_results(tmp_path / "in")
    files = ["--csv", str(tmp_path / "t.csv"), "--latex", str(tmp_path / "t.tex")]
    shown = CliRunner().invoke(app, ["table", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "diffjscc" in shown.stdout
    written = CliRunner().invoke(app, ["table", str(folder), *files])
    assert written.exit_code == 0, written.output
    assert (tmp_path / "t.csv").read_text().startswith("scheme,channel,rate,snr_db,")
    assert r"\begin{tabular}" in (tmp_path / "t.tex").read_text()
    piped = CliRunner().invoke(app, ["table", str(folder), "--csv", "-"])
    assert piped.stdout == (tmp_path / "t.csv").read_text()
    lost = CliRunner().invoke(app, ["table", str(folder), "--csv", str(folder / "rows.jsonl")])
    assert lost.exit_code == 2
    assert CliRunner().invoke(app, ["table", str(tmp_path)]).exit_code == 2


def test_other_k_at_one_rate_is_said() -> None:
    """512x600 pixels at 1/16: 19,456 channel uses of the padded image, 19,200 of the file."""
    size = {"width": 512, "height": 600, "nominal_rate": "1/16"}
    spent = {"image": 19_200, "padding": 256}
    neural = replace(toy_record(), channel_uses=19_456, uses_by_kind=spent, **size)
    digital = replace(
        toy_record("bpg-ldpc"), channel_uses=19_200, uses_by_kind={"payload": 19_200}, **size
    )
    note = padding_note([neural, digital])
    assert note is not None
    assert "diffjscc spends 19,456 channel uses on 512x600 pixels and bpg-ldpc 19,200" in note
    one = console()
    print_metrics(one, [neural, digital], [METRICS["psnr"].info], compared=True)
    assert letters("bpg-ldpc 19,200") in letters(printed(one))
    whole = replace(neural, channel_uses=19_200, uses_by_kind={"image": 19_200, "padding": 0})
    assert padding_note([whole, digital]) is None
    assert padding_note([neural, replace(neural, scheme="deepjscc")]) is None
