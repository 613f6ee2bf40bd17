"""Nets as their authors published them: what hearpack makes of each, and what the converters alone make of it.

    python bench/published_nets.py --sources DIR [--only NAME,NAME] [--no-plain] [--json FILE]

DIR holds a file per net, which the reader writes: `build()` gives the net from the authors' own source, `GEOMETRY` says
what geometry.toml would; `SETTLE = 20`, where weights are random, lets that many passes of noisy speech settle the
batch norms; `features(block)`, where the net takes features of `[front_end]`, is how the judge computes them. Nothing
of the authors' is part of this project.

Each net is exported in a process of its own. The judge knows nothing of hearpack's loop: the torch net in float64, over
3 s of noisy speech at once (windows: every hop; steps: one by one), against each artefact called with its states.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from side_by_side import options, save
from torch import nn

from converters.bundle.test_audio import noisy_speech
from converters.export import export
from models.common.errors import HearpackError
from models.custom.loading import load, parse_target
from runtimes.bundle import Bundle
from runtimes.engines import Choice, engines_for, open_runtime

Array = NDArray[np.float32]
SECONDS = 3.0
PLAIN_HOPS = 8  # of audio, for the converters alone: a causal net's fixed shape
LIMITS = {"fp32": 110.0, "fp16": 55.0}  # dB
SCORES = {"fp32": 1e-4, "fp16": 1e-2}  # largest difference of a score
CPU_LIMIT_S = 900


# --- a net --------------------------------------------------------------------------------------------------


Features = Callable[[Array], torch.Tensor]


def opened(file: Path) -> tuple[nn.Module, Mapping[str, Any], int, Features]:
    """The net of a file, its geometry, how many passes settle it, and what it is given of [1, n] audio."""
    torch.manual_seed(0)
    loaded = load(parse_target(f"{file}:build"))
    module = loaded.module
    return loaded.result, module.GEOMETRY, getattr(module, "SETTLE", 0), getattr(module, "features", torch.from_numpy)


def settled(net: nn.Module, geometry: Mapping[str, Any], passes: int, file: Path) -> Path:
    """Weights whose batch norms have seen batches of audio, and nothing else; written to `file`."""
    shape = geometry["geometry"]
    size = max(shape["window_samples"], 16 * shape["hop_samples"])
    audio = speech(shape["sample_rate_hz"], 20.0)
    generator = np.random.default_rng(0)
    net.eval()
    for part in net.modules():
        part.training = isinstance(part, nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        for _ in range(passes):
            starts = generator.integers(0, audio.size - size, 4)
            net(torch.from_numpy(np.stack([audio[start : start + size] for start in starts])))
    torch.save(net.eval().state_dict(), file)
    return file


def speech(rate: int, seconds: float) -> Array:
    """Noisy speech, [n]."""
    return noisy_speech(rate, seconds)[0]


# --- the judge ----------------------------------------------------------------------------------------------


def truth(net: nn.Module, geometry: Mapping[str, Any], audio: Array, features: Features) -> NDArray[np.float64]:
    """What the author's net gives, as rows: samples, or the scores of every window or hop; in float64 if it can."""
    try:
        return rows_in(torch.float64, net, geometry, audio, features)
    except RuntimeError:  # a script that casts to float32
        return rows_in(torch.float32, net, geometry, audio, features).astype(np.float64)


def rows_in(
    dtype: torch.dtype, net: nn.Module, geometry: Mapping[str, Any], audio: Array, features: Features
) -> NDArray[Any]:
    """The same, computed in one type, which the net has from now on."""
    net = net.to(dtype).eval()
    form, shape = geometry["net"]["form"], geometry["geometry"]
    torch.set_default_dtype(dtype)
    try:
        with torch.no_grad():
            if form == "window":
                blocks = [features(b).to(dtype) for b in windows(audio, shape)]
                return np.stack([net(b).reshape(-1).numpy() for b in blocks])
            if form == "causal":
                out: torch.Tensor = net(torch.from_numpy(audio[None]).to(dtype))
                return out.reshape(-1, 1).numpy()
            states = [torch.zeros(s["shape"]) for s in geometry["states"]]
            rows = []
            for block in np.split(audio[None], audio.size // shape["hop_samples"], 1):
                result, *states = net(torch.from_numpy(block).to(dtype), *(s.clone() for s in states))
                rows.append(result.reshape(-1).numpy())
            return np.stack(rows)
    finally:
        torch.set_default_dtype(torch.float32)


def windows(audio: Array, shape: Mapping[str, int]) -> Iterator[Array]:
    """[1, window] at every hop."""
    size, hop = shape["window_samples"], shape["hop_samples"]
    for start in range(0, audio.size - size + 1, hop):
        yield audio[None, start : start + size]


def came(bundle: Bundle, choice: Choice, geometry: Mapping[str, Any], audio: Array) -> Array:
    """The same of an artefact."""
    form, shape = geometry["net"]["form"], geometry["geometry"]
    runtime = open_runtime(bundle, choice)
    state, rows = runtime.reset(), []
    calls = audio.size // shape["hop_samples"]
    for block in windows(audio, shape) if form == "window" else np.split(audio[None], calls, 1):
        outputs, state = runtime.step(np.ascontiguousarray(block), state)
        rows.append(next(iter(outputs.values())).reshape(-1))
    runtime.close()
    return np.concatenate(rows)[:, None] if form == "causal" else np.stack(rows)


def figure(task: str, original: NDArray[np.float64], candidate: Array) -> float:
    """dB of an enhancer, largest difference of a classifier."""
    error = candidate.astype(np.float64) - original[: len(candidate)]
    if not np.isfinite(error).all():
        return float("nan")
    if task == "classifier":
        return float(np.abs(error).max())
    power = float((original[: len(candidate)] ** 2).sum())
    return float(10.0 * np.log10(power / max(float((error**2).sum()), 1e-300)))


def passes(task: str, precision: str, value: float) -> bool:
    """Whether a figure is within its limit."""
    return value <= SCORES[precision] if task == "classifier" else value >= LIMITS[precision]


# --- hearpack, and the converters alone ---------------------------------------------------------------------


def ours(file: Path, folder: Path, formats: Sequence[str], precisions: Sequence[str]) -> dict[str, Any]:
    """Export one net and judge what came."""
    net, geometry, passes_to_settle, features = opened(file)
    weights = None
    if passes_to_settle:
        weights = file.parent / "settled" / f"{file.stem}.pt"
        weights.parent.mkdir(exist_ok=True)
        if not weights.exists():
            settled(net, geometry, passes_to_settle, weights)
        net.load_state_dict(torch.load(weights))
    before = cpu_s()
    result = export(
        f"{file}:build", folder, weights=weights, formats=formats, precisions=precisions, geometry=geometry, force=True
    )
    figures: dict[str, Any] = {"cpu_s": cpu_s() - before}
    if result.refused:
        figures["errors"] = {one.artefact: f"{one.artefact}: {one.reason}" for one in result.refused}
    bundle = Bundle.open(result.path)
    shape = geometry["geometry"]
    audio = speech(shape["sample_rate_hz"], SECONDS)
    audio = audio[: audio.size // shape["hop_samples"] * shape["hop_samples"]]
    original = truth(net.eval(), geometry, audio, features)
    late = bundle.manifest.geometry.delay_samples - shape.get("delay_samples", 0)  # look-ahead that became delay
    original = original[: len(original) - late]
    for artefact in bundle.manifest.artefacts:
        path = bundle.artefact_path(artefact)
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        candidate = came(bundle, Choice(artefact, engines_for(artefact)[0]), geometry, audio)
        figures[artefact.id] = figure(geometry["task"], original, candidate[late:])
        figures[f"{artefact.id}_mb"] = sum(f.stat().st_size for f in files) / 1e6
    return figures


def example(geometry: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Inputs of the fixed shape that the converters alone are given."""
    shape, form = geometry["geometry"], geometry["net"]["form"]
    samples = {"window": shape["window_samples"], "step": shape["hop_samples"]}
    audio = 0.1 * torch.randn(1, samples.get(form, PLAIN_HOPS * shape["hop_samples"]))
    return (audio, *(torch.zeros(s["shape"]) for s in geometry.get("states", ())))


def plain_litert(file: Path) -> dict[str, Any]:
    """litert-torch on the net as it is."""
    import litert_torch

    net, geometry, *_ = opened(file)
    litert_torch.convert(net.eval(), example(geometry))
    return {}


def plain_coreml(file: Path) -> dict[str, Any]:
    """coremltools on the net as it is, traced."""
    import coremltools

    net, geometry, *_ = opened(file)
    inputs = example(geometry)
    with torch.no_grad():
        traced = torch.jit.trace(net.eval(), inputs, check_trace=False)
    types = [coremltools.TensorType(f"input_{i}", tuple(x.shape)) for i, x in enumerate(inputs)]
    target = coremltools.target.iOS17
    coremltools.convert(traced, inputs=types, convert_to="mlprogram", minimum_deployment_target=target)
    return {}


def cpu_s() -> float:
    """CPU seconds of this process and its children so far."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


# --- all of them --------------------------------------------------------------------------------------------


def work(task: str, file: Path, formats: str, precisions: str) -> dict[str, Any]:
    """One task in this process; a failure is its first line."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    before = cpu_s()
    try:
        if task == "hearpack":
            with tempfile.TemporaryDirectory() as folder:
                return ours(file, Path(folder), formats.split(","), precisions.split(","))
        plain: dict[str, Callable[[Path], dict[str, Any]]] = {"litert": plain_litert, "coreml": plain_coreml}
        return plain[task](file) | {"cpu_s": cpu_s() - before}
    except HearpackError as exc:
        return {"error": str(exc), "cpu_s": cpu_s() - before}
    except Exception as exc:  # converters raise anything
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or [""]
        return {"error": f"{type(exc).__name__}: {lines[0][:200]}", "cpu_s": cpu_s() - before}


def child(task: str, file: Path, formats: str = "litert,coreml", precisions: str = "fp32,fp16") -> dict[str, Any]:
    """`work` in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, __file__, "--work", task, str(file), formats, precisions, "--json", out.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        text = Path(out.name).read_text(encoding="utf-8")
        if done.returncode or not text:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            return {"error": f"the process ended with {done.returncode}: {last[:200]}", "cpu_s": float("nan")}
        result: dict[str, Any] = json.loads(text)
        return result


def tried(file: Path) -> dict[str, Any]:
    """A net's export; where all four artefacts are too much, each format, and then float32 alone."""
    whole = child("hearpack", file)
    if "error" not in whole:
        return whole
    figures: dict[str, Any] = {"errors": {"all": whole["error"]}, "cpu_s": whole["cpu_s"]}
    for name in ("litert", "coreml"):
        for precisions in ("fp32,fp16", "fp32"):
            part = child("hearpack", file, name, precisions)
            if "error" not in part:
                figures |= {key: value for key, value in part.items() if key != "cpu_s"}
                break
            figures["errors"][f"{name} {precisions}"] = part["error"]
    return figures


def row(name: str, task: str, net: Mapping[str, Any]) -> str:
    """A line of the table."""
    cells = [name]
    unit = "" if task == "classifier" else " dB"
    for artefact in ("litert-fp32", "litert-fp16", "coreml-fp32", "coreml-fp16"):
        value = net["hearpack"].get(artefact)
        if value is None:
            cells.append("none")
        else:
            good = passes(task, artefact[-4:], value)
            cells.append(f"{value:.1e}" if task == "classifier" else f"{value:.0f}{unit}")
            cells[-1] += "" if good else " (past its limit)"
    size = net["hearpack"].get("litert-fp32_mb")
    cells += [f"{net['hearpack']['cpu_s']:.0f}", "" if size is None else f"{size:.1f}"]
    for converter in ("litert", "coreml"):
        alone = net.get(converter)
        cells.append("" if alone is None else alone.get("error", "ok"))
    cells.append("; ".join(dict.fromkeys(net["hearpack"].get("errors", {}).values())))
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


HEAD = """| net | .tflite fp32 | .tflite fp16 | .mlpackage fp32 | .mlpackage fp16 | CPU s | MB | litert-torch alone | \
coremltools alone | refused by hearpack |
|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print the table."""
    parser = options(__doc__)
    parser.add_argument("--sources", type=Path, help="the folder of nets")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--no-plain", action="store_true", help="leave the converters alone out")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        task, file, formats, precisions = arguments.work
        save(arguments.json, work(task, Path(file), formats, precisions))
        return
    if arguments.sources is None or not arguments.sources.is_dir():
        sys.exit("--sources: expected a folder with a file per net (see the top of this file)")
    files = sorted(f for f in arguments.sources.glob("*.py") if not f.stem.startswith("_"))
    only = [name for name in arguments.only.split(",") if name]
    figures: dict[str, Any] = {}
    print(HEAD, flush=True)
    for file in files:
        if only and file.stem not in only:
            continue
        net: dict[str, Any] = {"hearpack": tried(file)}
        if not arguments.no_plain:
            net |= {task: child(task, file) for task in ("litert", "coreml")}
        figures[file.stem] = net
        text = file.read_text(encoding="utf-8")
        print(row(file.stem, "classifier" if '"classifier"' in text else "enhancer", net), flush=True)
        save(arguments.json, figures)


if __name__ == "__main__":
    main()
