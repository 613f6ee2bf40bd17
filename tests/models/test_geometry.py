"""models.geometry: shapes of a stream, and which buffers there are."""

from __future__ import annotations

import pytest

from models.common.errors import UsageError
from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec, check_buffer


def test_milliseconds_of_samples() -> None:
    assert StreamGeometry(16000, 1, 512, 128, 384).ms(384) == 24.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("sample_rate_hz", 0), ("channels", 0), ("window_samples", -1), ("hop_samples", 0), ("delay_samples", -1)],
)
def test_a_geometry_without_sense_is_refused_by_name(field: str, value: int) -> None:
    fields = {"sample_rate_hz": 16000, "channels": 1, "window_samples": 512, "hop_samples": 128, "delay_samples": 0}
    with pytest.raises(UsageError, match=rf"{field} must be at least \d, got {value}"):
        StreamGeometry(**{**fields, field: value})


@pytest.mark.parametrize(("samples", "hops"), [(128, 1), (256, 2), (2048, 16)])
def test_a_buffer_of_whole_hops(samples: int, hops: int) -> None:
    assert check_buffer(samples, 128, 16) == hops


@pytest.mark.parametrize(
    ("samples", "nearest"),
    [
        (0, "128 samples"),
        (-5, "128 samples"),
        (100, "128 samples"),
        (129, "128 or 256 samples"),
        (160, "128 or 256 samples"),
        (2047, "1920 or 2048 samples"),
        (2049, "2048 samples"),
        (4096, "2048 samples"),
    ],
)
def test_another_buffer_is_refused_with_the_nearest_valid(samples: int, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_buffer(samples, 128, 16)
    assert str(caught.value).endswith(f"nearest valid: {nearest}")
    assert str(samples) in str(caught.value)


def test_state_names_and_sizes() -> None:
    state = StateSpec("h1", (1, 128))
    assert (state.name, state.out_name, state.elements) == ("h1", "h1_out", 128)


def test_a_signature_lists_streams_before_states() -> None:
    audio = TensorSpec("audio", (1, 128), (-1.0, 1.0), "in")
    enhanced = TensorSpec("enhanced", (1, 128), (-1.0, 1.0), "out")
    signature = GraphSignature((audio,), (enhanced,), (StateSpec("a", (1, 3)), StateSpec("b", (2, 2))))
    assert signature.input_names == ("audio", "a", "b")
    assert signature.output_names == ("enhanced", "a_out", "b_out")
    assert signature.input_shapes == ((1, 128), (1, 3), (2, 2))
