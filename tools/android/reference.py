"""What Python's CompiledModel gives on a bundle's golden input: the reference that the Kotlin core is compared with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from converters.bundle.golden import read_golden, through_resampler
from converters.bundle.reference import stream
from runtimes.bundle import Bundle
from runtimes.engines import Choice, open_runtime
from streaming.core.decisions import detect
from streaming.files.stream_file import event_fields
from streaming.simulator.device.profile import load_profile, profile_names

SHIPPED = ("manifest.json", "labels.txt", "golden", "litert")


def write(bundles: dict[str, Path], folder: Path) -> None:
    """Lay out bundles and references as the Kotlin tests expect them.

    Args:
        bundles: by name ("dtln", "yamnet").
        folder: gets bundles/NAME, python/NAME-RATE.f32 and -events.json, and profiles.json.
    """
    (folder / "python").mkdir(parents=True)
    fields = ("rate_hz", "block_frames", "jitter_us", "output_rate_hz", "output_block_frames")
    profiles = {name: load_profile(name) for name in profile_names()}
    sizes = [{"name": name} | {f: getattr(profile, f) for f in fields} for name, profile in profiles.items()]
    (folder / "profiles.json").write_text(json.dumps(sizes), encoding="utf-8")
    for name, path in bundles.items():
        target = folder / "bundles" / name
        target.mkdir(parents=True)
        for item in SHIPPED:
            if (path / item).is_dir():
                shutil.copytree(path / item, target / item)
            elif (path / item).is_file():
                shutil.copyfile(path / item, target / item)
        _write_streams(Bundle.open(path), name, folder / "python")


def _write_streams(bundle: Bundle, name: str, folder: Path) -> None:
    manifest = bundle.manifest
    runtime = open_runtime(bundle, Choice(bundle.artefact("litert-fp32"), "litert-compiled"))
    rate = manifest.geometry.sample_rate_hz
    for golden in read_golden(bundle):
        heard = through_resampler(golden.samples, golden.sample_rate_hz, rate)
        output = stream(manifest, runtime, heard)
        values = np.ascontiguousarray(output.values, "<f4")
        (folder / f"{name}-{golden.sample_rate_hz}.f32").write_bytes(values.tobytes())
        if manifest.decisions is not None:
            events = detect(manifest.decisions, bundle.labels(), rate, output.ends, output.values, len(heard))
            text = json.dumps([event_fields(e) for e in events])
            (folder / f"{name}-{golden.sample_rate_hz}-events.json").write_text(text, encoding="utf-8")
    runtime.close()
