"""When an event began and ended, for people and files: the one place that turns an event's samples into time.

Decisions count in windows: onset_sample is the end of an event's first window minus a hop, offset_sample the end of
its last minus a hop. For people an event lasts from the first hop that it was heard in to the end of the last one.
What is on in a stream's first window has been on, as far as anybody can know, since the stream began.
"""

from __future__ import annotations


def event_span(onset_sample: int, offset_sample: int, hop_samples: int, first_end: int | None) -> tuple[int, int]:
    """Begin and end of an event in samples of its stream, at least a hop apart.

    Args:
        onset_sample, offset_sample: as SoundEvent has them.
        hop_samples: the decisions' window_hop_samples.
        first_end: end of the stream's first window; None where the event cannot lie in it.

    Returns:
        begin, 0 or more, and end; the padding of a last window may lie before the end.
    """
    in_first = first_end is not None and onset_sample + hop_samples <= first_end
    return 0 if in_first else max(0, onset_sample), offset_sample + hop_samples


def event_seconds(
    onset_sample: int,
    offset_sample: int,
    hop_samples: int,
    first_end: int | None,
    *,
    rate_hz: int,
    lag_samples: int = 0,
    duration_s: float,
) -> tuple[float, float]:
    """Begin and end of an event in seconds of a recording: never before its first sample or after its last.

    Args:
        onset_sample, offset_sample, hop_samples, first_end: as event_span has them.
        rate_hz: the model's rate.
        lag_samples: how far the stream lags the recording (the resampler's delay).
        duration_s: of the recording.
    """
    begin, end = event_span(onset_sample, offset_sample, hop_samples, first_end)
    seconds = [min(max(0.0, (sample - lag_samples) / rate_hz), duration_s) for sample in (begin, end)]
    return seconds[0], seconds[1]
