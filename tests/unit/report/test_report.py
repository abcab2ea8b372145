"""From records to table and report: figures are the records', and a row without figures says why."""

import json

import pandas as pd
import pytest

from stagebench.dataset.photographs import PHOTOGRAPHS
from stagebench.records import StagebenchError, Stopwatch, make_record, write_json
from stagebench.report import definitions, formatting
from stagebench.report.markdown import write_precision_report, write_report
from stagebench.report.table import COLUMNS, make_table

CELL = {"device": "local", "model": "net", "engine": "openvino", "precision": "int8", "batch": 16}
METRICS = {
    "p_whole": 60.0,
    "p_core": 80.0,
    "p_device": 70.0,
    "p_cached": 78.0,
    "latency_us": 12500.0,
    "top1": 95.3125,
    "top5": 99.0,
    "mem_used_gib": 0.5,
    "mem_total_gib": 24.0,
}
# Two passes over 128 images.
BREAKDOWN = {
    "threads": 2,
    "wall": 4.5,
    "read": 0.1,
    "decode": 0.2,
    "resize": 0.3,
    "input_cpu": 0.5,
    "wait_input": 0.45,
    "wait_engine": 3.5,
    "top_k": 0.05,
    "wait_slot": 8.4,
    "h2d": 0.0,
    "compute": 4.0,
    "d2h": 0.0,
}
FILE = {"path": "x", "sha256": "a" * 64, "bytes": 2048}
SECONDS = {
    "dataset": 1.0,
    "pixels": 2.0,
    "weights": 4.0,
    "exported": 8.0,
    "simplified": 16.0,
    "variant": 32.0,
    "engine": 64.0,
    "validation": 128.0,
    "inference": 256.0,
}


class Records:
    """A folder of records, one row's worth; each can be changed before the report is made."""

    def __init__(self, folder):
        self.folder = folder
        self.records = {
            "dataset": self.make(
                "dataset",
                inputs={"archive": {**FILE, "md5": "b" * 32}},
                outputs={"manifest": FILE},
                images=128,
                fitting_images=128,
                classes=16,
                labels="sample",
                photographs=[photograph._asdict() for photograph in PHOTOGRAPHS],
            ),
            "pixels": self.make("pixels", outputs={"pixels": FILE}),
            "weights": self.make("weights", outputs={"weights": FILE}, fetched=False),
            "exported": self.make(
                "model",
                outputs={"onnx": FILE},
                compared={"with": "torch", "images": 8, "largest_difference": 1e-6},
            ),
            "simplified": self.make("model", outputs={"onnx": FILE}),
            "variant": self.make(
                "model",
                outputs={"onnx": {**FILE, "path": "int8.onnx"}},
                compared={"with": "fp32", "images": 16, "cosine": 0.999, "top1_agreement": 100.0},
            ),
            "engine": self.make("engine", outputs={"engine": FILE}),
            "validation": self.measured("validation", {**CELL, "engine": "torch", "precision": "fp32"}),
            "inference": self.measured("inference", CELL),
        }
        for stage, seconds in SECONDS.items():
            self.records[stage]["wall_s"] = seconds
        self.device = folder / "device.json"
        write_json(self.device, self.make("device", name="local", environment={"CPU": "a processor", "Docker": "none"}))

    @staticmethod
    def make(kind, **payload):
        return make_record(kind, watch=Stopwatch(), **payload)

    def measured(self, kind, cell):
        return self.make(
            kind,
            cell=cell,
            dataset={"name": "sample", "images": 128, "subset": None},
            metrics=METRICS,
            passes={"whole": [2.0, 2.5], "cached": [1.5], "resident": [0.5]},
            execution={"precision": cell["precision"], "convolutions": {"u8": 53}},
            device_kind="cpu",
            measurement={"cpus": [0, 1], "decode_threads": 2},
            startup={"load_s": 0.5, "warmup_s": 0.25},
            breakdown=BREAKDOWN,
            unsteady_predictions=0,
        )

    def rows(self):
        paths = {}
        for stage, record in self.records.items():
            paths[stage] = str(self.folder / f"{stage}.json")
            write_json(self.folder / f"{stage}.json", record)
        return [{"cell": CELL, "records": paths}]

    def refuse(self, status="unsupported", reason="the CPU has no such arithmetic"):
        for stage in ("engine", "inference"):
            self.records[stage] |= {"status": status, "reason": reason}
        del self.records["inference"]["metrics"]

    def table(self):
        make_table(self.rows(), self.folder / "table.csv")
        return pd.read_csv(self.folder / "table.csv").to_dict("records")

    def report(self, **options):
        report = self.folder / "report.md"
        write = write_precision_report if options else write_report
        write(self.rows(), {"local": str(self.device)}, report, notes=["auto is something here"], **options)
        return report.read_text()


@pytest.fixture
def row(tmp_path):
    return Records(tmp_path)


def test_the_tables_columns_are_those_that_users_rely_on(row):
    [line] = row.table()
    assert ",".join(line) == (
        "device,model,engine,precision,bs,mem_used_gib,mem_total_gib,e2e_time_s,p_val_whole,p_val_core,"
        "p_infer_whole,p_infer_core,latency_us,acc_infer,acc_val,status,note"
    )
    assert tuple(line) == COLUMNS


def test_the_tables_figures_are_the_records(row):
    [line] = row.table()
    assert line["p_infer_whole"] == METRICS["p_whole"]
    assert line["latency_us"] == METRICS["latency_us"]
    assert line["acc_infer"] == pytest.approx(METRICS["top1"], abs=0.0006)
    assert line["status"] == "ok"
    assert line["note"] == "validated against fp32"


def test_end_to_end_time_is_the_sum_of_the_stages(row):
    assert row.table()[0]["e2e_time_s"] == sum(SECONDS.values())


def test_fetched_weights_do_not_count(row):
    row.records["weights"]["fetched"] = True
    assert row.table()[0]["e2e_time_s"] == sum(SECONDS.values()) - SECONDS["weights"]


@pytest.mark.parametrize("status", ["unsupported", "unavailable", "failed"])
def test_a_row_without_figures_says_why(row, status):
    row.refuse(status, "why it is so")
    [line] = row.table()
    assert (line["status"], line["note"]) == (status, "why it is so")
    assert pd.isna(line["p_infer_whole"])
    text = row.report()
    assert "## What was not measured, and why" in text
    assert "why it is so" in text
    assert "0 of 1 cells were measured" in text


def test_a_subset_is_marked(row):
    row.records["inference"]["dataset"]["subset"] = 64
    assert "subset of 64 images" in row.table()[0]["note"]
    assert "**a subset of 64 was used**" in row.report()


def test_a_failed_validation_leaves_the_engines_figures(row):
    row.records["validation"] |= {"status": "failed", "reason": "killed by SIGKILL"}
    del row.records["validation"]["metrics"]
    [line] = row.table()
    assert line["p_infer_whole"] == METRICS["p_whole"]
    assert pd.isna(line["p_val_whole"])
    assert line["note"] == "validation failed: killed by SIGKILL"
    row.report()


def test_the_report_has_the_originals_layout_and_rows(row):
    lines = row.report().splitlines()
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
    text = row.report()
    for part in (
        "This is not ImageNet",
        "* CPU: a processor",
        "* Docker: none",
        "auto is something here",
        "MD5 " + "b" * 32,
        "cosine 0.99900, same top-1 100.0 % (16 images)",
        "p_infer_cached",
        definitions.as_markdown(),
    ):
        assert part in text, part
    for photograph in PHOTOGRAPHS:
        assert f"{photograph.title} ({photograph.licence}; {photograph.source})" in text


def test_where_the_time_went_is_told_per_image(row):
    lines = row.report().splitlines()
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
    row.records["inference"] |= {"device_kind": device_kind, "breakdown": {**BREAKDOWN, **spent}}
    row.records["inference"]["metrics"] = {**METRICS, "p_whole": rates[0], "p_core": rates[1]}
    line = next(line for line in row.report().splitlines() if line.startswith("* **openvino int8, batch size 16**"))
    for part in words:
        assert part in line, line


def test_a_precisions_report_shows_its_own_published_row(row):
    text = row.report(precision="fp32")
    assert "Stagebench: fp32" in text
    assert "6091.6" in text
    assert "11710.0" not in text


def test_a_missing_record_is_named(row):
    rows = row.rows()
    (row.folder / "engine.json").unlink()
    with pytest.raises(StagebenchError, match=r"engine\.json: no such record; run the target"):
        make_table(rows, row.folder / "table.csv")


def test_a_record_without_a_figure_is_named(row):
    row.records["inference"]["metrics"] = json.loads(json.dumps(METRICS))
    del row.records["inference"]["metrics"]["p_core"]
    with pytest.raises(StagebenchError, match=r"inference\.json: the record has no figure 'p_core'"):
        row.table()


def test_the_document_holds_the_definitions_that_reports_print(repository):
    text = (repository / "docs/metrics.md").read_text()
    assert definitions.as_markdown() in text


def test_every_column_of_the_table_is_defined():
    defined = {column for metric in definitions.ORIGINAL for column in metric.columns}
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
    text = formatting.table(["a", "b"], [["x|y", "line\nbreak"]], left=1)
    assert "x\\|y" in text
    assert len(text.splitlines()) == 3
