"""Where a run's results go: all of its files, or none of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streaming.runs.record import HEARD_LIMIT_S
from streaming.simulator.pipeline.ledger import Ledger
from streaming.simulator.pipeline.perfetto import TraceWriter
from streaming.simulator.pipeline.writers import InputRecorder, Occupancy, RawWriter, WavWriter
from streaming.simulator.timeline import SECOND_NS


@dataclass(frozen=True)
class Recorders:
    """Everything a pipeline writes to.

    Attributes:
        ledger, trace, heard, occupancy: see their types.
        output: what was played. scores, ends: of a classifier. None where nothing is kept.
        total_ns: length of the run expected.
    """

    ledger: Ledger
    trace: TraceWriter
    heard: InputRecorder
    occupancy: Occupancy
    output: WavWriter | None
    scores: RawWriter | None
    ends: RawWriter | None
    total_ns: int

    def close(self) -> None:
        """End every file; harmless if called twice."""
        self.ledger.close()
        self.trace.close()
        self.heard.close()
        for writer in (self.output, self.scores, self.ends):
            if writer is not None:
                writer.close()


def no_recorders(total_ns: int, rate_hz: int) -> Recorders:
    """Nothing is written; figures are kept."""
    heard = InputRecorder(total_ns * rate_hz // SECOND_NS, None)
    return Recorders(Ledger(None), TraceWriter(None), heard, Occupancy(total_ns), None, None, None, total_ns)


def file_recorders(
    folder: Path,
    total_ns: int,
    rate_hz: int,
    output_rate_hz: int,
    enhancer: bool,
    audio: bool,
    trace_limit: int = 200_000,
) -> Recorders:
    """The files of a run's folder (streaming/runs/record.py).

    Args:
        folder: where to.
        total_ns: length of the run expected.
        rate_hz, output_rate_hz: the model's rate and the output's.
        enhancer: whether audio comes out, or scores.
        audio: whether heard.wav and output.wav are wanted.
        trace_limit: slices of the trace.

    Raises:
        OutputError: a file cannot be written.
    """
    heard = None
    if audio and total_ns <= HEARD_LIMIT_S * SECOND_NS:
        heard = WavWriter(folder / "heard.wav", rate_hz, "PCM_16")
    return Recorders(
        Ledger(folder / "ledger.csv"),
        TraceWriter(folder / "trace.json", trace_limit),
        InputRecorder(total_ns * rate_hz // SECOND_NS, heard),
        Occupancy(total_ns),
        WavWriter(folder / "output.wav", output_rate_hz, "FLOAT") if enhancer and audio else None,
        None if enhancer else RawWriter(folder / "scores.f32"),
        None if enhancer else RawWriter(folder / "ends.i64"),
        total_ns,
    )
