"""Where a run's results go: all of its files, or none of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streaming.runs.record import HEARD_LIMIT_S
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.ledger import Ledger
from streaming.simulator.pipeline.perfetto import TraceWriter
from streaming.simulator.pipeline.writers import InputRecorder, Occupancy, RawWriter, WavWriter


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


def make_recorders(
    folder: Path | None, total_ns: int, rate_hz: int, output_rate_hz: int, enhancer: bool, audio: bool
) -> Recorders:
    """The files of a run's folder (streaming/runs/record.py); without one only figures are kept.

    Args:
        folder: where to.
        total_ns: length of the run expected.
        rate_hz, output_rate_hz: the model's rate and the output's.
        enhancer: whether audio comes out, or scores.
        audio: whether heard.wav and output.wav are wanted.

    Raises:
        OutputError: a file cannot be written.
    """
    heard = output = scores = ends = None
    if folder is not None:
        if audio and total_ns <= HEARD_LIMIT_S * SECOND_NS:
            heard = WavWriter(folder / "heard.wav", rate_hz, "PCM_16")
        if not enhancer:
            scores, ends = RawWriter(folder / "scores.f32"), RawWriter(folder / "ends.i64")
        elif audio:
            output = WavWriter(folder / "output.wav", output_rate_hz, "FLOAT")
    return Recorders(
        Ledger(folder and folder / "ledger.csv"),
        TraceWriter(folder and folder / "trace.json"),
        InputRecorder(total_ns * rate_hz // SECOND_NS, heard),
        Occupancy(total_ns),
        output,
        scores,
        ends,
        total_ns,
    )
