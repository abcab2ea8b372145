"""Where a report's figures come from: data sets, files with their digests, and the time that each stage took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stagebench.report import formatting
from stagebench.report.chain import STAGES, Row
from stagebench.report.formatting import BLANK, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = 16  # hexadecimal digits of a digest that a table shows; the records hold all
_STEPS = {
    "dataset": "extract",
    "pixels": "decode once",
    "weights": "weights",
    "exported": "export",
    "simplified": "simplify",
    "variant": "prepare",
    "engine": "build",
    "validation": "validate",
    "inference": "infer",
}


def stage_times(rows: Sequence[Row]) -> str:
    """Return the wall time of every stage on each row's way, in seconds, and their sum (e2e_time)."""
    headers = ["device", "model", "engine", "precision", "bs", *(_STEPS[stage] for stage in STAGES), "sum"]
    lines = []
    for row in rows:
        taken = row.seconds()
        stages = [seconds(taken[stage]) if stage in taken else BLANK for stage in STAGES]
        lines.append([*row.key, *stages, seconds(sum(taken.values()))])
    return formatting.table(headers, lines, left=4)


def places(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Return where the measured rows ran and from where they read: device -> label -> text."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if not row.ok:
            continue
        entry = found.setdefault(str(row.cell["device"]), {"Measured on": [], "Images read from": []})
        for record in (row.records.get(stage, {}) for stage in ("validation", "inference")):
            for label, text in (
                ("Measured on", _machine(record.get("ran_on"))),
                ("Images read from", _folder(record.get("read_from"))),
            ):
                if text and text not in entry[label]:
                    entry[label].append(text)
    return {
        device: {label: "; ".join(texts) for label, texts in entry.items() if texts} for device, entry in found.items()
    }


def _machine(ran_on: Any) -> str:
    if not ran_on:
        return ""
    card = f", {ran_on['gpu']['name']} {ran_on['gpu']['uuid']}" if ran_on["gpu"] else ""
    return f"{ran_on['host']} ({len(ran_on['cpus'])} CPUs{card})"


def _folder(read_from: Any) -> str:
    if not read_from:
        return ""
    staged = ", copied to the machine's own disk before" if read_from["staged"] else ""
    return f"`{read_from['folder']}` ({read_from['file_system']}{staged})"


def datasets(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what the records say of each data set, once: name, images, classes, archive, subset and photographs."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        record = row.records.get("dataset")
        name = row.records["inference"]["dataset"]["name"]
        if record is None or name in found:
            continue
        archive = record["inputs"].get("archive", {})
        found[name] = {
            "name": name,
            "images": record["images"],
            "fitting_images": record["fitting_images"],
            "classes": record["classes"],
            "labels": record["labels"],
            "archive": {"size": formatting.size(archive["bytes"]), **archive} if archive else None,
            "manifest": record["outputs"]["manifest"]["sha256"],
            "photographs": record.get("photographs", []),
            "subset": row.records["inference"]["dataset"]["subset"],
        }
    return list(found.values())


def files(rows: Sequence[Row]) -> str:
    """Return the files behind the rows, each once: what it is, how it was held against another, size and digest."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        for stage in ("weights", "exported", "simplified", "variant", "engine"):
            record = row.records.get(stage)
            if record is None or record["status"] != "ok":
                continue
            for entry in record["outputs"].values():
                lines.setdefault(
                    entry["path"],
                    [
                        f"`{entry['path']}`",
                        _comparison(record),
                        formatting.size(entry["bytes"]),
                        entry["sha256"][:_SHORT],
                    ],
                )
    headers = ["file", "compared with what it was made from", "size", "sha256 (first digits)"]
    return formatting.table(headers, list(lines.values()), left=2)


def _comparison(record: Any) -> str:
    """Say in a few words how the outputs of a file were held against another's."""
    compared = record.get("compared")
    if not compared:
        return BLANK
    if "largest_difference" in compared:
        return (
            f"{compared['with']}: largest difference of a logit {compared['largest_difference']:.1e} of the range "
            f"({compared['images']} images)"
        )
    text = (
        f"{compared['with']}: cosine {compared['cosine']:.5f}, same top-1 {compared['top1_agreement']:.1f} % "
        f"({compared['images']} images)"
    )
    calibration = record.get("settings", {}).get("calibration")
    if calibration:
        splits = {"fit": "fitting", "val": "validation"}
        kinds = " and ".join(splits[split] for split in calibration["split"])
        text += f"; calibrated with {calibration['images']} {kinds} images"
    return text
