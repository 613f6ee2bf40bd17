"""What a pipeline is made for: a bundle, a device and the sizes that were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.bundle import Manifest
from streaming.runs.record import Policy
from streaming.simulator.device.faults import Fault
from streaming.simulator.device.profile import DeviceProfile


@dataclass(frozen=True)
class PipelineConfig:
    """What a pipeline is made of.

    Attributes:
        manifest, labels: of the bundle.
        profile: the device.
        policy: what an overload does.
        ring_samples, prefill_samples: sizes; at the model's and at the output's rate.
        faults: nan and raise are for a pipeline, stalls for whoever drives it.
        calls_at_once: virtual clock: calls between two looks at their results, the playout's reads made between
            them; None: in real time, every result at once, reads by the device.
    """

    manifest: Manifest
    labels: Sequence[str]
    profile: DeviceProfile
    policy: Policy
    ring_samples: int
    prefill_samples: int
    faults: Sequence[Fault] = ()
    calls_at_once: int | None = None

    @property
    def rate_hz(self) -> int:
        """The model's rate."""
        return self.manifest.geometry.sample_rate_hz

    @property
    def route_ns(self) -> int:
        """The input's route."""
        return round(self.profile.input_latency_ms * 1e6)
