"""Compressed packages of both models: the evaluator decodes weights as coremltools itself does.

The truth is coremltools' own `decompress_weights`: a package whose weights it has written out dense must give what
the compressed one gives, however much accuracy the compression cost. k-means at 8 bits takes coremltools up to
minutes and differs from a uniform palette only in the palette's entries; bench/mil_compressed.py does all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from converters.bundle.reference import StreamOutput, compare, original, stream  # noqa: E402
from converters.bundle.test_audio import programme  # noqa: E402
from converters.coreml.precision import quiet_coremltools  # noqa: E402
from models import pretrained  # noqa: E402
from models.catalog import find  # noqa: E402
from models.common.errors import FetchError  # noqa: E402
from runtimes.bundle import Bundle  # noqa: E402
from runtimes.inspect.mlpackage import describe  # noqa: E402
from runtimes.mil import MilRuntime  # noqa: E402
from runtimes.torch import load_net  # noqa: E402
from streaming.metrics.parity import audio_parity  # noqa: E402

SECONDS = {"yamnet": 10.0, "dtln": 3.0}


@dataclass(frozen=True)
class Case:
    """A model, how it is compressed, and what that may cost.

    Attributes:
        model: catalogue name.
        scheme: "int8", "pruned", or palette mode and bits.
        smaller: at most this fraction of the uncompressed package.
        near: DTLN: at least this SNR in dB against torch; YAMNet: at least this fraction of the top-5 labels kept.
            None: the compression ruins the net, which is not the evaluator's doing.
    """

    model: str
    scheme: str
    smaller: float
    near: float | None

    def __str__(self) -> str:
        return f"{self.model}-{self.scheme}"


# In brackets what was measured.
CASES = (
    Case("dtln", "int8", 0.30, 30.0),  # (0.27; 37 dB)
    Case("dtln", "uniform-8", 0.30, 19.0),  # (0.27; 25 dB)
    Case("dtln", "kmeans-6", 0.23, 20.0),  # (0.20; 27 dB)
    Case("dtln", "kmeans-4", 0.16, 9.0),  # (0.14; 14 dB)
    Case("dtln", "pruned", 0.57, 8.0),  # (0.54; 13 dB)
    Case("yamnet", "int8", 0.29, 0.8),  # (0.26; 0.92)
    Case("yamnet", "uniform-8", 0.29, 0.75),  # (0.26; 0.88)
    Case("yamnet", "kmeans-4", 0.16, 0.4),  # (0.13; 0.57)
    Case("yamnet", "pruned", 0.57, None),  # (0.53; 0.05)
)
OPERATIONS = {"int8": "constexpr_affine_dequantize", "pruned": "constexpr_sparse_to_dense"}


def compress(model: Any, scheme: str) -> Any:
    """A compressed copy of a coremltools model."""
    import coremltools.optimize.coreml as cto

    if scheme == "int8":
        quantizer = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype=np.int8)
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=quantizer))
    if scheme == "pruned":
        pruner = cto.OpMagnitudePrunerConfig(target_sparsity=0.5)
        return cto.prune_weights(model, cto.OptimizationConfig(global_config=pruner))
    mode, bits = scheme.split("-")
    if mode == "kmeans":
        pytest.importorskip("sklearn")  # coremltools' k-means needs it for float32 weights and does not bring it
    palettizer = cto.OpPalettizerConfig(mode=mode, nbits=int(bits))
    return cto.palettize_weights(model, cto.OptimizationConfig(global_config=palettizer))


@cache
def material(name: str) -> NDArray[np.float32]:
    entry = find(name)
    try:
        return programme(entry.test_material, entry.geometry.sample_rate_hz, SECONDS[name])
    except FetchError as exc:
        pytest.skip(f"the audio for {name} cannot be fetched: {exc}")


@cache
def truth(path: Path) -> StreamOutput:
    """What torch gives for the material."""
    manifest = Bundle.open(path).manifest
    name = manifest.name
    return original(manifest, load_net(find(name), pretrained.load(name)), material(name))


def size(package: Path) -> int:
    return sum(f.stat().st_size for f in package.rglob("*") if f.is_file())


def snr_db(reference: NDArray[np.float32], other: NDArray[np.float32], rate: int) -> float:
    return audio_parity(reference.ravel(), other.ravel(), rate).snr_db


def constexprs(package: Path) -> dict[str, int]:
    return {name: count for name, count in describe(package).operations if name.startswith("constexpr")}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compressed_equals_decompressed_by_coremltools(case: Case, exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported[case.model])
    manifest = bundle.manifest
    source = bundle.artefact_path(bundle.artefact("coreml-fp32"))
    packed, dense = tmp_path / "packed.mlpackage", tmp_path / "dense.mlpackage"
    with quiet_coremltools() as ct:
        from coremltools.optimize.coreml import decompress_weights

        compressed = compress(ct.models.MLModel(str(source), skip_model_load=True), case.scheme)
        compressed.save(str(packed))
        decompress_weights(compressed).save(str(dense))

    # One is compressed, the other is not: else the two would be equal for nothing.
    assert set(constexprs(packed)) == {OPERATIONS.get(case.scheme, "constexpr_lut_to_dense")}
    assert sum(constexprs(packed).values()) >= 10
    assert constexprs(dense) == {}
    assert size(packed) <= case.smaller * size(source) < case.smaller * 1.05 * size(dense)

    samples, rate = material(case.model), manifest.geometry.sample_rate_hz
    got, expected = (stream(manifest, MilRuntime(p, manifest.signature), samples).values for p in (packed, dense))
    assert np.isfinite(got).all()
    reference = truth(exported[case.model])
    if case.model == "dtln":
        assert snr_db(expected, got, rate) >= 100
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)
    same = "bit for bit" if np.array_equal(got, expected) else f"{snr_db(expected, got, rate):.0f} dB"
    # Compression did change the result, and (where it is any good) not by much.
    assert snr_db(reference.values, got, rate) < 60
    parity = compare(manifest, reference, StreamOutput(got, reference.ends)).metrics()
    kept = top5_kept(reference.values, got) if case.model == "yamnet" else parity["snr_db"]
    print(f"{case}: {size(packed) / size(source):.3f} of the size, {kept:.3f}; packed is dense: {same}; {parity}")
    if case.near is not None:
        assert kept >= case.near


def top5_kept(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    """Fraction of the reference's five best labels that are among the candidate's."""
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :5] for scores in (reference, candidate)]
    return float(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*best, strict=True)]))
