"""Blocks of any size in, fixed buffers into the runtime, results out: the host's side of a stream.

A *step* net takes buffer_samples of new audio a call. A *window* net sees buffer_samples every
window_hop_samples, the first time when that many have come; the host keeps the overlap here.

At the end of a stream (`flush`) zeros are fed once:
- step: until the last input sample has come out, that is until delay_samples more than came in have come
  out; audio is cut to exactly that length. A step net that returns scores gets the same calls, uncut.
- window: if a window has begun that holds a sample no window has covered (or none was full yet and any sample
  came), it is padded to its full length and run, once. Its end is where it would have been.

Output that is not finite never gets out, and never stays: such a call gives silence (scores: nothing), the state goes
back to its reset value and the stream goes on; docs/dsp.md has the rule for ports.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError, UsageError
from models.geometry import StreamGeometry
from runtimes.bundle import Manifest
from runtimes.protocol import Runtime
from streaming.core.bound import all_finite
from streaming.core.resample import check_block

Array = NDArray[np.float32]

_ENDED = "loop: the stream was flushed or has failed; call reset() before the next block"


class LoopOutput(NamedTuple):
    """What one call gave.

    Attributes:
        end_sample: input samples, counted from reset, up to the end of what this call saw (the zeros of a flush
            included). For audio it is also where `values` end in the output stream, which lags by delay_samples.
        values: float32 [samples] of audio ([channels, samples] of several), [labels] of scores, or [sources, channels,
            samples] of a separator.
        nan: values that were NaN or Inf; then `values` are zeros, and scores are to be left out.
    """

    end_sample: int
    values: Array
    nan: int = 0


class StreamLoop:
    """One stream through one runtime.

    Args:
        runtime: a loaded artefact; its state is kept here, so it may serve several streams by turns.
        geometry: the model's rates and hops.
        buffer_kind: "step" or "window".
        buffer_samples: samples one call takes.
        window_hop_samples: window nets: new samples between windows (default: the geometry's hop); may exceed
            the window, then the samples between are skipped.
        output_name: the output wanted (default: the first).
        sources: a separator's outputs, all of them wanted.
        recover: False gives output that is not finite as it is and keeps the state: for whoever judges a net.

    Attributes:
        in_samples: samples taken in since reset, without a flush's zeros.
        calls: calls of the runtime since reset.
        nan_outputs: those whose output was not finite; each put the state back to its reset value.
        audio_out: whether the output is audio as long as the buffer (step nets), rather than scores.
        lead: () where blocks are [n]; (lanes,) where they are [lanes, n]: the channels of `audio`, then one for each
            further input, or of a separator.

    Raises:
        UsageError: buffer, hop or output do not fit the runtime.
    """

    def __init__(
        self,
        runtime: Runtime,
        geometry: StreamGeometry,
        buffer_kind: Literal["step", "window"],
        buffer_samples: int,
        window_hop_samples: int | None = None,
        output_name: str | None = None,
        sources: tuple[str, ...] = (),
        recover: bool = True,
    ) -> None:
        hop = buffer_samples
        if buffer_kind == "window":
            hop = geometry.hop_samples if window_hop_samples is None else window_hop_samples
        elif window_hop_samples not in (None, buffer_samples):
            raise UsageError("loop: window_hop_samples is for window nets; a step net takes buffer_samples per call")
        if hop < 1:
            raise UsageError(f"loop: window_hop_samples must be at least 1, got {hop}")
        self._further = tuple(t.name for t in runtime.signature.inputs[1:])
        lanes = geometry.channels + len(self._further)
        self.lead = (lanes,) if sources or lanes > 1 else ()
        self._shape = (1, *geometry.lead, buffer_samples)
        _check_runtime(runtime, self._shape)
        outputs = {t.name: t for t in runtime.signature.outputs}
        name = runtime.signature.outputs[0].name if output_name is None else output_name
        for wanted in (name, *sources):
            if wanted not in outputs:
                raise UsageError(f"loop: no output {wanted!r}; the runtime gives: {', '.join(outputs)}")
        self.runtime, self.geometry, self.buffer_kind = runtime, geometry, buffer_kind
        self.buffer_samples, self.hop, self.output_name = buffer_samples, hop, name
        self.audio_out = buffer_kind == "step" and outputs[name].shape[-1] == buffer_samples
        self.sources = sources
        self._recover = recover
        self._buffer: Array = np.zeros((*self.lead, buffer_samples), np.float32)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream: reset state, nothing held."""
        self._state = self.runtime.reset()
        self._filled = 0  # samples held, from the front of the buffer
        self._skip = 0  # samples to drop before the next window begins
        self._start = 0  # absolute index of the buffer's first sample
        self._out_samples = 0
        self._ended = False
        self.in_samples = 0
        self.calls = 0
        self.nan_outputs = 0

    @property
    def missing_samples(self) -> int:
        """New samples that the next call waits for."""
        return self._skip + self.buffer_samples - self._filled

    def push(self, block: Array) -> list[LoopOutput]:
        """Take in new samples and make every call that is due.

        Args:
            block: float32 [n], or [lanes, n] (see `lead`), at the model's rate, n >= 0, full scale 1.0.

        Returns:
            a result for each call, in order; often none.

        Raises:
            AudioError: NaN or Inf, with its position; nothing of the block is taken in.
            ArtefactError: the runtime failed; the stream has to be reset.
            UsageError: not float32 [n], or the stream was flushed.
        """
        if self._ended:
            raise UsageError(_ENDED)
        if self.lead and block.shape[:-1] != self.lead:
            raise UsageError(f"a block must be float32 [{self.lead[0]}, n], got {block.dtype} {list(block.shape)}")
        for channel in block if self.lead else (block,):
            check_block(channel, self.in_samples, self.geometry.sample_rate_hz)
        self.in_samples += block.shape[-1]
        return self._feed(block)

    def step(self, block: Array) -> LoopOutput:
        """One call's new samples: as `push` of them, for a host that has counted and checked them already.

        Args:
            block: float32 [n], finite, n exactly what the next call lacks: a buffer at first, then a hop. The runtime
                may keep it.

        Returns:
            the call's result.

        Raises:
            ArtefactError, UsageError: as `push`.
        """
        if self._ended:
            raise UsageError(_ENDED)
        self.in_samples += len(block)
        filled, size, keep = self._filled, self.buffer_samples, self.buffer_samples - self.hop
        if self._skip or keep < 0 or filled + len(block) != size:
            return self._feed(block)[0]
        if keep == 0:
            return self._run(block[None])
        whole: Array = np.empty((1, size), np.float32)
        whole[0, :filled], whole[0, filled:] = self._buffer[:filled], block
        result = self._run(whole)
        self._buffer[:keep] = whole[0, self.hop :]
        self._filled = keep
        return result

    def flush(self) -> list[LoopOutput]:
        """End the stream and give what is still inside; it then takes no block until reset().

        Returns:
            the last results, in order.

        Raises:
            ArtefactError: the runtime failed.
        """
        if self._ended or self.in_samples == 0:
            self._ended = True
            return []
        if self.buffer_kind == "window":
            results = self._pad_window()
        else:
            results = self._drain()
        self._ended = True
        return results

    def _feed(self, block: Array) -> list[LoopOutput]:
        results = []
        taken = 0
        length = block.shape[-1]
        while taken < length:
            if self._skip:
                step = min(self._skip, length - taken)
                self._skip -= step
                taken += step
                continue
            step = min(self.buffer_samples - self._filled, length - taken)
            self._buffer[..., self._filled : self._filled + step] = block[..., taken : taken + step]
            self._filled += step
            taken += step
            if self._filled == self.buffer_samples:
                results.append(self._call())
        return results

    def _call(self) -> LoopOutput:
        # A copy, because a runtime may return a state that shares memory with the block it was given.
        block = self._buffer.copy()
        if self._further:
            channels = self.geometry.channels
            self._state = {**self._state, **dict(zip(self._further, block[channels:, None], strict=True))}
            block = block[:channels]
        result = self._run(block.reshape(self._shape))
        keep = max(0, self.buffer_samples - self.hop)
        if keep:
            self._buffer[..., :keep] = self._buffer[..., self.hop :].copy()
        self._filled = keep
        self._skip = max(0, self.hop - self.buffer_samples)
        return result

    def _run(self, block: Array) -> LoopOutput:
        try:
            outputs, self._state = self.runtime.step(block, self._state)
        except ArtefactError:
            self._ended = True
            raise
        if self.sources:
            values: Array = np.stack([outputs[s].reshape(self.geometry.channels, -1) for s in self.sources])
        else:
            values = outputs[self.output_name].reshape(*(self.geometry.lead if self.audio_out else ()), -1)
        got = values.shape[-1]
        if self.audio_out and got != self.buffer_samples:
            self._ended = True
            raise ArtefactError(f"{self.output_name}: expected {self.buffer_samples} samples per call, got {got}")
        self.calls += 1
        end = self._start + self.buffer_samples
        self._out_samples += got
        self._start += self.hop
        if not self._recover or all_finite(values):
            return LoopOutput(end, values)
        self.nan_outputs += 1
        self._state = self.runtime.reset()
        return LoopOutput(end, np.zeros_like(values), int(np.count_nonzero(~np.isfinite(values))))

    def _drain(self) -> list[LoopOutput]:
        """Step nets: feed zeros until `in_samples + delay_samples` have gone in, and cut audio there."""
        wanted = self.in_samples + self.geometry.delay_samples
        missing = -(-wanted // self.buffer_samples) * self.buffer_samples - self.in_samples
        results = self._feed(np.zeros((*self._buffer.shape[:-1], missing), np.float32))
        surplus = self._out_samples - wanted
        if self.audio_out and results and surplus > 0:
            last = results[-1]
            values = last.values[..., : last.values.shape[-1] - surplus]
            results[-1] = LoopOutput(last.end_sample - surplus, values, last.nan)
        return results

    def _pad_window(self) -> list[LoopOutput]:
        """Window nets: one last window, if a sample would otherwise be seen by none."""
        covered = self._start - self.hop + self.buffer_samples if self.calls else 0
        if self.in_samples <= max(covered, self._start):
            return []
        return self._feed(np.zeros((*self.lead, self.buffer_samples - self._filled), np.float32))


def make_loop(manifest: Manifest, runtime: Runtime, recover: bool = True) -> StreamLoop:
    """The loop that a manifest asks for."""
    buffer, rates, sources = manifest.buffer, manifest.stream_geometry, manifest.sources
    return StreamLoop(runtime, rates, buffer.kind, buffer.samples, manifest.hop_samples, None, sources, recover)


def _check_runtime(runtime: Runtime, shape: tuple[int, ...]) -> None:
    audio = runtime.signature.inputs[0]
    if audio.shape != shape:
        raise UsageError(f"loop: the runtime takes {audio.name} {list(audio.shape)}, the buffer says {list(shape)}")


def run_loop(loop: StreamLoop, samples: Array) -> list[LoopOutput]:
    """A whole clip through a fresh stream: reset, push, flush."""
    loop.reset()
    return loop.push(samples) + loop.flush()
