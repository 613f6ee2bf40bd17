"""Rows of a batch as Parquet: one file a shard with one group of rows, which appears whole or not at all."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.common.errors import MissingDependencyError, OutputError, first_line
from models.common.files import write_atomic
from runtimes.bundle import Manifest

RUN_KEY = b"hearpack.run"
_SHARDS_IN_A_FOLDER = 1000
TIMING = "compute_s"  # the one column that differs from run to run


def arrow(module: str = "") -> Any:
    """pyarrow, or a module of it."""
    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as exc:
        raise MissingDependencyError("pyarrow", "batch", "hearpack batch") from exc


def schema(manifest: Manifest, run: str) -> Any:
    """Columns of a net's rows; docs/batch.md explains each.

    Args:
        manifest: the net's.
        run: the run's digest, which every file carries.
    """
    pa = arrow()
    texts = pa.list_(pa.string())
    fields = [
        ("path", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("sample_rate_hz", pa.int32()),
        ("channels", pa.int16()),
        ("duration_s", pa.float64()),
        ("peak_dbfs", pa.float32()),
        ("rms_dbfs", pa.float32()),
        ("dc", pa.float32()),
        ("clipped_samples", pa.int64()),
        ("warnings", texts),
        ("calls", pa.int64()),
        ("nan_outputs", pa.int64()),
        ("limited_samples", pa.int64()),
        (TIMING, pa.float64()),
    ]
    vector = pa.list_(pa.float32())
    if manifest.output_kind == "scores":
        event = [("onset_s", pa.float64()), ("offset_s", pa.float64()), ("label", pa.string())]
        fields.append(("events", pa.list_(pa.struct([*event, ("confidence", pa.float32())]))))
        window = [("end_s", pa.float64()), ("index", pa.list_(pa.int16())), ("score", vector)]
        fields.append(("windows", pa.list_(pa.struct(window))))
    elif manifest.output_kind == "embedding":
        fields.append(("windows", pa.list_(pa.struct([("end_s", pa.float64()), ("embedding", vector)]))))
    else:
        fields.append(("audio", texts))
    return pa.schema(fields, metadata={RUN_KEY: run.encode()})


def shard_file(output: Path, number: int) -> Path:
    """Where a shard's rows are."""
    return output / "files" / f"{number // _SHARDS_IN_A_FOLDER:04d}" / f"{number:07d}.parquet"


def audio_folder(output: Path, number: int) -> Path:
    """Where a shard's audio is."""
    return output / "audio" / f"{number // _SHARDS_IN_A_FOLDER:04d}" / f"{number:07d}"


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], columns: Any) -> None:
    """One shard's rows, one group.

    Raises:
        OutputError: the place cannot be written, or the disk is full; nothing is left behind.
    """
    table = arrow().Table.from_pylist(list(rows), schema=columns)
    buffer = io.BytesIO()
    arrow("parquet").write_table(table, buffer, compression="zstd", row_group_size=max(1, len(rows)))
    write_atomic(file, buffer.getvalue())


def read_rows(file: Path, run: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a shard, or some columns of them.

    Raises:
        OutputError: the file is damaged, or of another run.
    """
    pa = arrow()
    try:
        table = arrow("parquet").ParquetFile(file).read(None if columns is None else list(columns))
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise OutputError(f"{file}: is no whole Parquet file: {first_line(exc)}; remove it, and run again") from exc
    if run is not None and (table.schema.metadata or {}).get(RUN_KEY, b"").decode() != run:
        raise OutputError(f"{file}: is of another run; choose another folder with --output")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def done_shards(output: Path) -> Iterator[int]:
    """Numbers of the shards whose rows are there."""
    for file in (output / "files").glob("*/*.parquet"):
        if file.stem.isdigit():
            yield int(file.stem)
