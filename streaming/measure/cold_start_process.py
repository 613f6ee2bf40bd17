"""What one fresh process does in a cold start: reach the first decision, then tell when each stage ended.

Run by streaming.measure.cold_start and by nobody else. It imports as little as an app's first second would, so that
what is timed is the bundle's load and not the measuring: `run` has the stages in the order of a phone's app.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing these is part of what is timed
    from runtimes.bundle import Artefact, Bundle
    from runtimes.protocol import Runtime

CALLS = 10
_TONE_HZ, _TONE_LEVEL = 440.0, 0.1


def main(entered_ns: int, arguments: str) -> None:
    """Do one cold start and write its times as one JSON line on stdout.

    Args:
        entered_ns: monotonic time of the process's first line of Python.
        arguments: JSON {launched_ns, bundle, artefact, engine, threads, weight_cache}.
    """
    wanted = json.loads(arguments)
    stages = [("interpreter", entered_ns)]

    def mark(stage: str) -> None:
        stages.append((stage, time.monotonic_ns()))

    from models.common.errors import HearpackError

    try:
        result = run(wanted, mark)
    except HearpackError as exc:
        sys.stdout.write(json.dumps({"error": str(exc)}) + "\n")
        return
    launched = int(wanted["launched_ns"])
    in_order = [[name, (at - launched) / 1e6] for name, at in stages]
    first_decision_ms = (result.pop("first_decision_ns") - launched) / 1e6
    sys.stdout.write(json.dumps({"stages": in_order, "first_decision_ms": first_decision_ms, **result}) + "\n")


def run(wanted: Mapping[str, Any], mark: Callable[[str], None]) -> dict[str, Any]:
    """The start itself.

    Args:
        wanted: see `main`.
        mark: called with the name of each stage when it ends.

    Returns:
        {calls_ms, first_decision_ns, ready_cpu_ms, ready_memory_bytes, peak_memory_bytes, runtime}.
    """
    import numpy as np

    from models.common.errors import ArtefactError
    from runtimes.bundle import Bundle
    from streaming.core.decisions import DecisionTracker

    mark("imports")
    bundle = Bundle.open(wanted["bundle"])
    manifest, labels = bundle.manifest, bundle.labels()
    artefact = bundle.artefact(wanted["artefact"])
    mark("bundle_opened")
    runtime = _open(bundle, artefact, wanted, mark)
    state = runtime.reset()
    tracker = None
    if manifest.decisions is not None:
        tracker = DecisionTracker(manifest.decisions, labels, manifest.geometry.sample_rate_hz)
    mark("ready")
    ready_cpu_ms = time.process_time() * 1000.0
    ready_memory = memory_bytes()["now"]

    rate, size = manifest.geometry.sample_rate_hz, manifest.buffer.samples
    # Audio lags by delay_samples: the first calls of an enhancer give only what came before the stream.
    needed = 1 if tracker is not None else manifest.geometry.delay_samples // size + 1
    launched = int(wanted["launched_ns"])
    calls_ms, decided = [], 0
    shape = manifest.inputs[0].shape
    for call in range(max(CALLS, needed)):
        first = call * manifest.hop_samples
        block = _TONE_LEVEL * np.sin(2.0 * np.pi * _TONE_HZ / rate * np.arange(first, first + size))
        block = np.broadcast_to(block, shape).astype(np.float32)
        if call < needed:  # the microphone runs since the launch; this block is complete at that moment
            wait_s = (launched + (first + size) * 1e9 / rate - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                time.sleep(wait_s)
        began = time.perf_counter_ns()
        outputs, state = runtime.step(block, state)
        calls_ms.append((time.perf_counter_ns() - began) / 1e6)
        values = next(iter(outputs.values()))
        if not np.isfinite(values).all():
            raise ArtefactError(f"{bundle.path}: call {call + 1} of {artefact.id} gave NaN or Inf on a plain tone")
        if call + 1 == needed:
            if tracker is not None:
                tracker.push(values.reshape(-1), first + size)
            decided = time.monotonic_ns()
    info = runtime.info
    runtime.close()
    return {
        "calls_ms": calls_ms[:CALLS],
        "first_decision_ns": decided,
        "ready_cpu_ms": ready_cpu_ms,
        "ready_memory_bytes": ready_memory,
        "peak_memory_bytes": memory_bytes()["peak"],
        "runtime": f"{info.engine} {info.version}, {info.detail.split(', weight cache')[0]}",
    }


def _open(bundle: Bundle, artefact: Artefact, wanted: Mapping[str, Any], mark: Callable[[str], None]) -> Runtime:
    """The runtime, its stages marked one by one where it is LiteRT, as one stage elsewhere."""
    engine, threads = wanted["engine"], int(wanted["threads"])
    if not engine.startswith("litert"):
        from runtimes.engines import Choice, open_runtime

        runtime = open_runtime(bundle, Choice(artefact, engine), threads)
        mark("model_loaded")
        return runtime
    import mmap

    from models.common.errors import ArtefactError, BundleError
    from models.common.hashing import sha256_bytes

    path = bundle.artefact_path(artefact)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            data = bytes(mapped)  # touches every page
    except (OSError, ValueError) as exc:
        raise ArtefactError(f"{path}: cannot be mapped: {exc}") from exc
    mark("file_mapped")
    if sha256_bytes(data) != artefact.files[0].sha256:
        raise BundleError(f"{path}: does not match the manifest's sha256; export the bundle again")
    mark("file_checked")
    from runtimes.litert import LiteRTRuntime

    return LiteRTRuntime(
        data,
        bundle.manifest.signature,
        engine="compiled" if engine.endswith("compiled") else "interpreter",
        threads=threads,
        weight_cache=Path(wanted["weight_cache"]) if wanted["weight_cache"] else None,
        io_names=artefact.io,
        tried=True,  # by streaming.measure.cold_start
        sha256=artefact.files[0].sha256,
        mark=mark,
    )


def memory_bytes() -> dict[str, int]:
    """Resident memory of this process, {now, peak}.

    Linux: VmRSS and VmHWM, because getrusage's peak is inherited from the parent across exec. Elsewhere
    getrusage's peak serves for both.
    """
    with contextlib.suppress(OSError, KeyError, ValueError):
        fields = dict(
            line.split(":", 1)
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            if ":" in line
        )
        return {"now": int(fields["VmRSS"].split()[0]) * 1024, "peak": int(fields["VmHWM"].split()[0]) * 1024}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"now": peak, "peak": peak}
