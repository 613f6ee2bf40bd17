"""A look at an input's level: what makes a net deaf or wrong without any error, in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError

Array = NDArray[np.float32]

FULL_SCALE = 0.9999
LOUD_PEAK = 4.0  # +12 dBFS: mixes may pass full scale, nothing that was recorded passes this
UNSCALED_PEAK = 32.0  # +30 dBFS: whole numbers in floats
_DC = 0.02
_QUIET_DBFS = -70.0
_CANCEL_DB = 20.0
_BAND_HZ = 4000.0
_BAND_DB = -65.0
_BAND_RATE_HZ = 10_000
_FFT = 2048
_EVERY = 8  # one spectrum in so many blocks


@dataclass(frozen=True)
class InputLevel:
    """What an input's samples look like, counted over all of it; levels in dB of full scale, None for silence.

    Attributes:
        peak_dbfs, rms_dbfs: of the loudest channel.
        dc: largest mean of a channel, full scale 1.0.
        clipped_samples: samples at full scale that follow another one.
        mono_loss_db: how much quieter the mean of the channels is than they are; 0 for one channel.
        notes: what is unusual, each with what it means.
    """

    peak_dbfs: float | None
    rms_dbfs: float | None
    dc: float
    clipped_samples: int
    mono_loss_db: float
    notes: tuple[str, ...]

    def line(self) -> str:
        """All of it in a line."""
        if self.peak_dbfs is None or self.rms_dbfs is None:
            return "input level: " + "; ".join(self.notes)
        found = "; ".join(self.notes) or "nothing unusual"
        return (
            f"input level: peak {self.peak_dbfs:+.1f} dBFS, RMS {self.rms_dbfs:+.1f} dBFS, DC {self.dc:+.3f}; {found}"
        )


class LevelMeter:
    """Takes an input in block by block.

    Args:
        source: its file, for messages.
        sample_rate_hz, channels: its form.
        floats: whether it is stored as floats, so that samples may lie beyond full scale.
    """

    def __init__(self, source: str, sample_rate_hz: int, channels: int, floats: bool) -> None:
        self._source, self._rate_hz, self._floats = source, sample_rate_hz, floats
        self._peak = 0.0
        self._whole = True  # whether every sample so far is a whole number
        self._sums: NDArray[np.float64] = np.zeros(channels, np.float64)
        self._powers: NDArray[np.float64] = np.zeros(channels, np.float64)
        self._mono_power = 0.0
        self._clipped = self._frames = self._blocks = 0
        self._spectrum: NDArray[np.float64] = np.zeros(_FFT // 2 + 1, np.float64)
        self._window = np.hanning(_FFT)

    def push(self, block: Array) -> None:
        """Take in float32 [frames, channels].

        Raises:
            AudioError: NaN or Inf, with the place, or samples that are not scaled to 1.0.
        """
        if not len(block):
            return
        low, high = float(block.min()), float(block.max())
        if not math.isfinite(low + high):
            self._refuse_not_finite(block)
        peak = max(-low, high)
        if peak > 1.0 and self._floats:
            self._whole = self._whole and bool((np.rint(block) == block).all())
        self._peak = max(self._peak, peak)
        if peak >= FULL_SCALE:
            at_full = np.abs(block) >= FULL_SCALE
            self._clipped += int((at_full[1:] & at_full[:-1]).sum())
        if self._floats and (self._peak > UNSCALED_PEAK or (self._peak > LOUD_PEAK and self._whole)):
            self._refuse_unscaled()
        self._sums += block.sum(axis=0, dtype=np.float32)
        columns = [block[:, channel] for channel in range(block.shape[1])]
        powers = [float(np.dot(column, column)) for column in columns]
        self._powers += powers
        if len(columns) == 2:
            self._mono_power += (powers[0] + powers[1] + 2.0 * float(np.dot(columns[0], columns[1]))) / 4.0
        elif len(columns) > 2:
            mono = block.mean(axis=1)
            self._mono_power += float(np.dot(mono, mono))
        if self._blocks % _EVERY == 0 and len(block) >= _FFT and self._rate_hz >= _BAND_RATE_HZ:
            middle = (len(block) - _FFT) // 2
            for column in columns:
                self._spectrum += np.abs(np.fft.rfft(column[middle : middle + _FFT] * self._window)) ** 2
        self._blocks += 1
        self._frames += len(block)

    def _refuse_not_finite(self, block: Array) -> None:
        finite = np.isfinite(block)
        frame, channel = (int(v) for v in np.argwhere(~finite)[0])
        at = self._frames + frame
        raise AudioError(
            f"{self._source}: sample {at} ({at / self._rate_hz:.3f} s) of channel {channel} is "
            f"{float(block[frame, channel])}; expected finite numbers, write the file again"
        )

    def _refuse_unscaled(self) -> None:
        scale = next((s for s in (2**15, 2**23, 2**31) if self._peak <= s), self._peak)
        raise AudioError(
            f"{self._source}: its peak is {_db(self._peak**2):+.0f} dBFS ({self._peak:g}): the samples are not "
            f"scaled to 1.0; expected floats of full scale 1.0, divide by {scale:g} and write it again"
        )

    def level(self) -> InputLevel:
        """What came in so far."""
        power = float(self._powers.max()) / max(1, self._frames)
        dc = self._sums / max(1, self._frames)
        worst = float(dc[int(np.argmax(np.abs(dc)))])
        alike = float(self._powers.mean())
        loss = 0.0
        if len(self._powers) > 1 and alike > 0.0:
            loss = min(200.0, -_db(max(self._mono_power, 0.0) / alike))
        silent = self._peak == 0.0
        return InputLevel(
            peak_dbfs=None if silent else round(_db(self._peak**2), 2),
            rms_dbfs=None if silent else round(_db(power), 2),
            dc=round(worst, 5),
            clipped_samples=self._clipped,
            mono_loss_db=round(loss, 2),
            notes=tuple(self._notes(power, worst, loss)),
        )

    def _notes(self, power: float, dc: float, loss_db: float) -> list[str]:
        if self._peak == 0.0:
            return ["silence: every sample is 0"]
        notes = []
        if self._peak > LOUD_PEAK:
            notes.append("warning: far beyond full scale; were the samples scaled to 1.0?")
        if self._clipped:
            notes.append(f"warning: {self._clipped} samples clipped (at full scale)")
        if abs(dc) > _DC and self._frames > self._rate_hz // 10:
            notes.append(f"warning: DC of {100 * dc:+.1f} % of full scale (a highpass removes it)")
        if _db(power) < _QUIET_DBFS:
            notes.append("warning: nearly silent")
        if loss_db >= _CANCEL_DB:
            notes.append(f"warning: the channels cancel: mixed to mono they lose {loss_db:.0f} dB; use one of them")
        if self._empty_above():
            notes.append("warning: nothing above 4 kHz (a telephone, or a file of 8 kHz?)")
        return notes

    def _empty_above(self) -> bool:
        """Whether the band above 4 kHz holds nothing while the one below does."""
        total = float(self._spectrum.sum())
        if total <= 0.0:
            return False
        edge = math.ceil(1.1 * _BAND_HZ * _FFT / self._rate_hz)
        return _db(float(self._spectrum[edge:].sum()) / total) < _BAND_DB


def _db(power: float) -> float:
    return 10.0 * math.log10(power) if power > 0.0 else -400.0
