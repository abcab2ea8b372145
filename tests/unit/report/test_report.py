"""From records to table and report: figures are the records', and a row without figures says why."""

import re

import pandas as pd
import pytest
from support.records import CELL, METRICS, SECONDS, Records, edit_record

from stagebench.dataset.photographs import PHOTOGRAPHS
from stagebench.records.machine import Environment
from stagebench.report import formatting, metrics
from stagebench.report.render.markdown import markdown_table, write_markdown
from stagebench.report.render.table_csv import COLUMNS, write_table
from stagebench.report.rows import load_rows
from stagebench.report.settings import ReportSettings
from stagebench.report.tables import Table
from stagebench.vocabulary import failed, unavailable, unsupported


def table(row):
    """The rows of table.csv."""
    write_table(load_rows(row.rows()), row.folder / "table.csv")
    return pd.read_csv(row.folder / "table.csv").to_dict("records")


def report(row, precision=None):
    """The text of the report."""
    path = row.folder / "report.md"
    settings = ReportSettings(config_sha256="f" * 64, precision=precision, notes=("auto is something here",))
    write_markdown(load_rows(row.rows()), path, settings=settings, written="2026-01-02T03:04:05+00:00")
    return path.read_text()


@pytest.fixture
def row(tmp_path):
    return Records(tmp_path)


def test_the_tables_columns_are_those_that_users_rely_on(row):
    [line] = table(row)
    assert ",".join(line) == (
        "device,model,engine,precision,bs,mem_used_gib,mem_total_gib,e2e_time_s,p_val_whole,p_val_core,"
        "p_infer_whole,p_infer_core,latency_us,acc_infer,acc_val,status,note"
    )
    assert tuple(line) == COLUMNS


def test_the_tables_figures_are_the_records(row):
    [line] = table(row)
    assert line["p_infer_whole"] == METRICS.p_whole
    assert line["latency_us"] == METRICS.latency_us
    assert line["acc_infer"] == pytest.approx(METRICS.top1, abs=0.0006)
    assert line["status"] == "ok"
    assert line["note"] == "validated against fp32"


def test_end_to_end_time_is_the_sum_of_the_stages(row):
    assert table(row)[0]["e2e_time_s"] == sum(SECONDS.values())


def test_fetched_weights_do_not_count(row):
    row.change("weights", result=row.records["weights"].result.model_copy(update={"fetched": True}))
    assert table(row)[0]["e2e_time_s"] == sum(SECONDS.values()) - SECONDS["weights"]


@pytest.mark.parametrize("state", [unsupported, unavailable, failed])
def test_a_row_without_figures_says_why(row, state):
    row.refuse(state("why it is so"))
    [line] = table(row)
    assert (line["status"], line["note"]) == (state("").status.value, "why it is so")
    assert pd.isna(line["p_infer_whole"])
    text = report(row)
    assert "## What was not measured, and why" in text
    assert "why it is so" in text
    assert "0 of 1 cell was measured" in text


def test_a_subset_is_marked(row):
    row.change("inference", dataset=row.records["inference"].dataset.model_copy(update={"subset": 64}))
    assert "subset of 64 images" in table(row)[0]["note"]
    assert "**a subset of 64 was used**" in report(row)


def test_a_failed_validation_leaves_the_engines_figures(row):
    row.refuse(failed("killed by SIGKILL"), "validation")
    [line] = table(row)
    assert line["p_infer_whole"] == METRICS.p_whole
    assert pd.isna(line["p_val_whole"])
    assert line["note"] == "validation failed: killed by SIGKILL"
    report(row)


def test_the_report_has_the_originals_layout_and_rows(row):
    lines = report(row).splitlines()
    header = next(line for line in lines if "p_infer_core" in line and line.startswith("|"))
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names[3:] == [
        "precision",
        "bs",
        "e2e_time (s)",
        "p_val_whole",
        "p_val_core",
        "p_infer_whole",
        "p_infer_core",
        "latency",
        "acc (infer/val)",
        "mem (GiB)",
    ]
    published = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "FlagPerf: NVIDIA A100" in line
    ]
    assert [line[3:] for line in published] == [
        ["fp16", "256", "585.8", "1353.3", "4390.9", "1384.5", "11710.0", "85 μs", "76.17/76.21", "19.88/40.0"],
        ["fp32", "256", "474.4", "1487.3", "2653.2", "1560.3", "6091.6", "164 μs", "76.20/76.19", "28.86/40.0"],
    ]


def test_the_report_says_what_it_stands_on(row):
    text = report(row)
    for part in (
        "This is not ImageNet",
        "* CPU: a processor, 2 CPUs usable of 4",
        "* Docker: none",
        "* Driver: none",
        "* Engines: openvino (openvino 1.0)",
        "auto is something here",
        "MD5 " + "b" * 32,
        "cosine 0.99900, same top-1 100.0 % (16 images)",
        "p_infer_cached",
        metrics.as_markdown(),
    ):
        assert part in text, part
    for photograph in PHOTOGRAPHS:
        assert f"{photograph.title} ({photograph.licence}; {photograph.source})" in text


def test_where_the_time_went_is_told_per_image(row):
    lines = report(row).splitlines()
    header, _, line = lines[next(i for i, text in enumerate(lines) if "wait for input" in text and "|" in text) :][:3]
    told = dict(zip(*([cell.strip() for cell in text.strip("|").split("|")] for text in (header, line)), strict=True))
    assert float(told["decode"]) == pytest.approx(200 / 256, rel=0.01)  # 0.2 s over 256 images
    assert float(told["compute"]) == pytest.approx(4000 / 256, rel=0.01)
    assert float(told["wall"]) == pytest.approx(4500 / 256, rel=0.01)


@pytest.mark.parametrize(
    ("device_kind", "rates", "spent", "words"),
    [
        ("cpu", (79.0, 80.0), {}, ["the engine. 79.0 of 80.0 images/s arrive"]),
        # 0.5 s of a CPU for 256 images are 1.95 ms each; 2 CPUs: 1 / (0.00195 / 2 + 1 / 80) = 74.2.
        ("cpu", (70.0, 80.0), {}, ["the cores, which input and engine share", "25.0 ms", "deliver 74.2 images/s"]),
        (
            "cpu",
            (50.0, 80.0),
            {},
            ["waiting for one another: the loop waited 10 % of the time for input and 78 %", "One core more"],
        ),
        ("cpu", (50.0, 80.0), {"wait_input": 0.1}, ["The rest is the engine, slower in the passes than alone"]),
        # 2 threads need 0.6 s for 256 images: 853.3 images/s; core's rate takes 11710 x 1.95 ms = 22.9 cores.
        ("gpu", (850.0, 11710.0), {}, ["input. 2 threads feed 853.3 images/s", "take 11710.0; 23 cores would feed it"]),
        ("gpu", (500.0, 800.0), {}, ["neither side alone", "waited 10 % of the time for input and 78 %"]),
    ],
)
def test_the_report_says_what_limits_a_row(row, device_kind, rates, spent, words):
    run = row.records["inference"].result
    figures = run.metrics.model_copy(update={"p_whole": rates[0], "p_core": rates[1]})
    time_spent = run.time_spent.model_copy(update=spent)
    changed = {"device_kind": device_kind, "metrics": figures, "time_spent": time_spent}
    row.change("inference", result=run.model_copy(update=changed))
    line = next(line for line in report(row).splitlines() if line.startswith("* **openvino int8, batch size 16**"))
    for part in words:
        assert part in line, line


@pytest.mark.parametrize("device_kind", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("slots", "core", "words"),
    [
        # One thread needs 0.6 s for 256 images. Two slots of 16 images are for 32 threads, of 64.
        (4, 20000.0, ["the ring of input slots", "hold 32 images", "32 of 64 threads", "feed 13653.3 images/s"]),
        (6, 20000.0, None),
        (4, 13000.0, None),
    ],
)
def test_the_ring_is_named_where_it_is_the_limit(row, device_kind, slots, core, words):
    run = row.records["inference"].result
    changed = {
        "device_kind": device_kind,
        "metrics": run.metrics.model_copy(update={"p_whole": 9000.0, "p_core": core}),
        "time_spent": run.time_spent.model_copy(update={"threads": 64}),
        "settings": run.settings.model_copy(update={"slots": slots, "requests": 2}),
    }
    row.change("inference", result=run.model_copy(update=changed))
    line = next(line for line in report(row).splitlines() if line.startswith("* **openvino int8, batch size 16**"))
    for part in words or ():
        assert part in line, line
    assert ("the ring" in line) is (words is not None)


def test_a_quota_counts_where_engine_and_input_share_the_cores(row):
    """Of two CPUs in the mask, one may be used at a time."""
    record = row.records["inference"]
    run = record.result
    figures = run.metrics.model_copy(update={"p_whole": 70.0, "p_core": 80.0})
    row.change(
        "inference",
        result=run.model_copy(update={"metrics": figures}),
        environment=record.environment.model_copy(update={"cpus_usable": 1}),
    )
    assert "1 CPU can deliver 69.2 images/s" in report(row)


def test_a_precisions_report_shows_its_own_published_row(row):
    text = report(row, precision="fp32")
    assert "Stagebench: fp32" in text
    assert "6091.6" in text
    assert "11710.0" not in text


def refused(row, rows):
    """The one row, which must be refused, as table.csv has it; the reason is on the report, too."""
    loaded = load_rows(rows)
    write_table(loaded, row.folder / "table.csv")
    settings = ReportSettings(config_sha256="f" * 64, precision=None, notes=())
    write_markdown(loaded, row.folder / "report.md", settings=settings, written="now")
    [line] = pd.read_csv(row.folder / "table.csv").to_dict("records")
    assert line["status"] == "failed"
    assert pd.isna(line["p_infer_whole"])
    text = (row.folder / "report.md").read_text()
    assert line["note"] in text
    assert "0 of 1 cell was measured" in text
    return line["note"]


def test_a_row_with_a_missing_record_is_refused(row):
    rows = row.rows()
    (row.folder / "engine.json").unlink()
    assert re.search(r"engine\.json: no such record; run the target", refused(row, rows))


def test_a_row_with_a_record_without_a_figure_is_refused(row):
    rows = row.rows()
    edit_record(row.folder / "inference.json", lambda raw: raw["result"]["metrics"].pop("p_core"))
    note = refused(row, rows)
    assert re.search(r"inference\.json: result\.metrics\.p_core: is missing; delete it and run", note)


@pytest.mark.parametrize("value", [12.345, 1e6])
def test_a_row_with_an_edited_record_is_refused(row, value):
    rows = row.rows()
    path = row.folder / "inference.json"
    path.write_text(path.read_text().replace(f'"p_core": {METRICS.p_core}', f'"p_core": {value}'))
    assert refused(row, rows).endswith(
        f"inference.json: edited since it was written; delete it and run the target {path}"
    )


def test_a_row_with_a_figure_that_is_no_number_is_refused(row):
    rows = row.rows()
    path = row.folder / "inference.json"
    path.write_text(path.read_text().replace(f'"p_core": {METRICS.p_core}', '"p_core": NaN'))
    assert "inference.json" in refused(row, rows)


def test_a_row_with_the_record_of_another_cell_is_refused(row):
    row.change("inference", cell=CELL.model_copy(update={"engine": "onnxruntime", "batch": 8}))
    note = refused(row, row.rows())
    assert "inference.json: belongs to another cell (engine onnxruntime there, openvino here; batch size 8" in note


@pytest.mark.parametrize(
    ("stage", "name", "made_by"),
    [
        ("simplified", "onnx", "exported"),
        ("variant", "onnx", "simplified"),
        ("engine", "source", "variant"),
        ("inference", "engine", "engine"),
        ("inference", "manifest", "dataset"),
        ("validation", "weights", "weights"),
    ],
)
def test_a_row_whose_records_do_not_follow_from_each_other_is_refused(row, stage, name, made_by):
    entry = next(iter(row.records[made_by].outputs.values())).model_copy(update={"path": f"{made_by}.file"})
    row.change(made_by, outputs={name: entry})
    row.change(stage, inputs={name: entry})
    assert [loaded.ok for loaded in load_rows(row.rows())] == [True]
    row.change(stage, inputs={name: entry.model_copy(update={"sha256": "e" * 64})})
    note = refused(row, row.rows())
    assert f"{stage}.json: does not follow from {row.folder / made_by}.json" in note
    assert f"another {made_by}.file" in note


def test_one_refused_row_leaves_the_others(row, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    rows = [*row.rows(), *Records(other).rows()]
    (other / "variant.json").write_text("{}")
    assert [loaded.ok for loaded in load_rows(rows)] == [True, False]


@pytest.mark.parametrize(
    ("executed", "text"),
    [
        ({"int8": 52, "fp16": 1}, "52 x int8, 1 x fp16"),  # as TensorRT's session gives it
        ({"u8": 54}, "54 x u8"),
        ({}, "not reported by the engine"),
    ],
)
def test_what_was_executed_is_what_the_loaded_engine_said(row, executed, text):
    """Never the precision that was asked for, which is int8 in each of these rows."""
    run = row.records["inference"].result
    execution = run.execution.model_copy(update={"executed": executed, "details": {"tensor_types": {"int8": 90}}})
    row.change("inference", result=run.model_copy(update={"execution": execution}))
    lines = report(row).splitlines()
    header, _, line = lines[next(i for i, words in enumerate(lines) if "executed" in words and "|" in words) :][:3]
    cells = dict(
        zip(*([cell.strip() for cell in words.strip("|").split("|")] for words in (header, line)), strict=True)
    )
    assert cells["executed"] == text


def environment_of(row, stage, **changes) -> Environment:
    return row.records[stage].environment.model_copy(update=changes)


def test_rows_of_one_environment_have_one_list(row):
    text = report(row)
    assert "each is a column" not in text
    assert "* Kernel: 6.1" in text


def test_a_driver_that_changed_between_build_and_run_is_a_column(row):
    row.change("inference", environment=environment_of(row, "inference", driver="615.71", cuda_driver="13.4"))
    text = report(row)
    assert "Builds and runs had different environments; each is a column." in text
    lines = [re.sub(" +", " ", line) for line in text.splitlines()]
    assert "| Driver | none | 615.71 |" in lines
    assert "| CUDA driver | none | 13.4 |" in lines
    assert "| Kernel | 6.1 | 6.1 |" in lines
    assert "* **local (1)**: build of openvino int8 16; validation for openvino int8 16" in lines
    assert "* **local (2)**: run of openvino int8 16" in lines


def test_a_plug_in_s_versions_are_those_of_its_records(row):
    """An engine that this package does not know has its distributions in the block, too."""
    row.cell = CELL.model_copy(update={"engine": "mychip"})
    for stage in ("engine", "inference"):
        row.change(stage, cell=row.cell, versions={"mychip-sdk": "0.3"})
    assert "mychip (mychip-sdk 0.3)" in report(row)


def test_the_document_holds_the_definitions_that_reports_print(repository):
    text = (repository / "docs/metrics.md").read_text()
    assert metrics.as_markdown() in text


def test_every_column_of_the_table_is_defined():
    defined = {part.csv for metric in metrics.METRICS for part in metric.parts}
    assert set(COLUMNS) - defined == {"device", "model", "engine", "status", "note"}


def test_the_licences_stand_in_the_documents(repository):
    text = (repository / "docs/sample.md").read_text()
    for photograph in PHOTOGRAPHS:
        assert f"| {photograph.name} | `{photograph.file}` | {photograph.title} | {photograph.licence} |" in text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (11710.04, "11710.0"), (9.876, "9.88"), (123.45, "123.5"), (0.0, "0.00")]
)
def test_rates_read_well(value, text):
    assert formatting.rate(value) == text


@pytest.mark.parametrize(("value", "text"), [(85.4, "85 μs"), (4.25, "4.25 μs"), (12500, "12.5 ms"), (None, "-")])
def test_latencies_carry_their_unit(value, text):
    assert formatting.latency(value) == text


def test_a_table_cannot_be_broken_by_its_cells():
    text = markdown_table(Table.of(["a", "b"], [["x|y", "line\nbreak"]], left=1))
    assert "x\\|y" in text
    assert len(text.splitlines()) == 3
