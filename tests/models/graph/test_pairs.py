"""models.graph.pairs: complex values as pairs say what torch's complex values say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.common.errors import ConversionError
from tests.models.graph.lowering import EXACT, PHASES, ROUNDED, compared, graph_of, values

Z = torch.view_as_complex


def parts(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.real, z.imag


def made(x: Tensor, y: Tensor) -> list[Tensor]:
    z = torch.complex(x[..., 0], x[..., 1])
    return [
        torch.view_as_real(z),
        z.abs(),
        z.angle(),
        torch.view_as_real(torch.polar(x[..., 0], x[..., 1])),
        *parts(Z(x)),
        torch.real(z) + torch.imag(z),
    ]


def arithmetic(x: Tensor, y: Tensor) -> list[Tensor]:
    z, w = Z(x), Z(y)
    results = [
        z + w,
        z - w,
        z * w,
        z / w,
        z + 2.0,
        2.0 + z,
        z - 1.5,
        3.0 * z,
        z / 2.0,
        z * (1.0 - 2.0j),
        (0.5 + 1.0j) * z,
        z + 1.0j,
        z / (1.0 + 1.0j),
        z * x[..., 0],
        y[..., 1] * z,
        z + x[..., 0],
        x[..., 1] - z,
        z / y[..., 0].abs().add(1.0),
        x[..., 0] / w,
        torch.add(z, w, alpha=2),
        torch.sub(z, w, alpha=3),
        -z,
        z.conj(),
        z * w.conj(),
        torch.exp(z),
        z**2,
        z.pow(2),
        torch.sgn(z),
        torch.where(x[..., 0] > 0, z, w),
        torch.zeros_like(z) + w,
        z.clone().mul_(w).add_(1.0),
    ]
    return [torch.view_as_real(result.resolve_conj()) for result in results] + [
        (z * w).abs().square(),
        (z.conj() * z).real,
    ]


def products(x: Tensor, y: Tensor) -> list[Tensor]:
    z, w, real = Z(x), Z(y), x[..., 0]
    results = [
        z @ w.transpose(1, 2),
        torch.complex(real, 2 * real) @ w.transpose(1, 2).conj(),
        torch.bmm(z, w.transpose(1, 2)),
        z[0] @ w[0].t(),
        torch.einsum("bfc,bgc->bfg", z, w.conj()),
        torch.einsum("bfc,bfc->bf", z, w),
        torch.matmul(z, w[0, 0]),
    ]
    return [torch.view_as_real(result) for result in results]


def moved(x: Tensor, y: Tensor) -> list[Tensor]:
    z, w = Z(x), Z(y)
    results = [
        z[:, 1],
        z[..., 1:3],
        z[:, :, ::2],
        z.transpose(1, 2),
        z.permute(2, 0, 1),
        z.unsqueeze(1).squeeze(1),
        z.reshape(2, -1),
        z.flatten(),
        z.unflatten(1, (3, 1)),
        z[:, :1].expand(2, 3, 4),
        z.narrow(1, 1, 2),
        z.sum(1),
        z.mean((0, 2), keepdim=True),
        z.cumsum(1),
        *z.split(2, 2),
        *z.split([1, 2], 1),
        *z.chunk(2, 2),
        *z.unbind(1),
        torch.cat([z, w, x[..., 0]], 1),
        torch.stack([z, w], -1),
        torch.nn.functional.pad(z, (1, 2)),
        z.flip(1),
        z.roll(1, 2),
        z.repeat(1, 2, 1),
        z.index_select(1, torch.tensor([2, 0])),
        z.unfold(2, 2, 1),
        z.movedim(0, 2),
    ]
    return [torch.view_as_real(result) for result in results]


class Turned(nn.Module):
    """A complex parameter that forward reads, and a mask on it."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(Z(values(3, 4, 2, seed=5)))

    def forward(self, z: Tensor) -> Tensor:
        return z * self.turn + self.turn.conj()


def with_constants(x: Tensor, y: Tensor, turned: nn.Module) -> list[Tensor]:
    made = torch.complex(torch.linspace(0.0, 1.0, 4), torch.ones(4))
    return [torch.view_as_real(turned(Z(x))), torch.view_as_real(Z(y) * made), (Z(x) * torch.exp(2j * made)).abs()]


@pytest.mark.parametrize("body", [made, arithmetic, products, moved])
def test_complex_values_say_what_torchs_say(body: Callable[..., Any]) -> None:
    compared([body], [values(2, 3, 4, 2), values(2, 3, 4, 2, seed=1)], limit=EXACT)


def test_complex_constants_and_parameters() -> None:
    compared([with_constants], [values(2, 3, 4, 2), values(2, 3, 4, 2, seed=1)], [Turned()], limit=ROUNDED)


NORMS = st.sampled_from([None, "backward", "ortho", "forward"])


@given(
    have=st.integers(2, 9), points=st.none() | st.integers(1, 12), dim=st.sampled_from([0, 1, 2, -1, -2]), norm=NORMS
)
@settings(max_examples=9, deadline=None, phases=PHASES)
def test_transforms_of_any_size(have: int, points: int | None, dim: int, norm: str | None) -> None:
    shape = [3, 3, 3]
    shape[dim] = have

    def body(x: Tensor, y: Tensor) -> list[Tensor]:
        z = torch.complex(x, y)
        results = [
            torch.fft.rfft(x, points, dim, norm),
            torch.fft.fft(z, points, dim, norm),
            torch.fft.fft(x, points, dim, norm),
            torch.fft.ifft(z, points, dim, norm),
        ]
        back = [torch.fft.irfft(z, 2 * points, dim, norm)] if points else [torch.fft.irfft(z, None, dim, norm)]
        if points:
            back.append(torch.fft.irfft(z, 2 * points + 1, dim, norm))
        return [*back, *(torch.view_as_real(result) for result in results)]

    names = compared([body], [values(*shape), values(*shape, seed=1)], limit=2e-6)
    assert not {name for name in names if "fft" in name}


@given(
    points=st.integers(4, 17),
    hop=st.none() | st.integers(1, 9),
    window=st.sampled_from(["none", "full", "short"]),
    center=st.booleans(),
    mode=st.sampled_from(["reflect", "constant", "replicate"]),
    normalized=st.booleans(),
    onesided=st.booleans(),
    batched=st.booleans(),
)
@settings(max_examples=9, deadline=None, phases=PHASES)
def test_spectra(
    points: int, hop: int | None, window: str, center: bool, mode: str, normalized: bool, onesided: bool, batched: bool
) -> None:
    size = None if window == "full" else points if window == "none" else points - 2

    def body(x: Tensor) -> list[Tensor]:
        shape = None if window == "none" else torch.hann_window(size or points) + 0.1
        named: dict[str, Any] = {"center": center, "pad_mode": mode, "normalized": normalized, "onesided": onesided}
        x = x if batched else x[0]
        z = torch.stft(x, points, hop, size, shape, return_complex=True, **named)
        pairs = torch.view_as_real(z)
        return [pairs, z.abs(), torch.view_as_real(z * z.conj() + 1.0)[..., 0]]

    names = compared([body], [values(2, 60)], limit=2e-6)
    assert "stft" not in names
    assert "conv1d" in names


@pytest.mark.filterwarnings("ignore:The length of signal is shorter")  # as asked
@given(
    points=st.sampled_from([4, 6, 8, 12, 16, 18]),  # torch.export takes no odd one
    share=st.sampled_from([2, 3, 4]),
    short=st.booleans(),
    normalized=st.booleans(),
    batched=st.booleans(),
    length=st.sampled_from([None, 20, 31, 80]),
)
@example(points=18, share=3, short=True, normalized=False, batched=True, length=20)
@settings(max_examples=9, deadline=None, phases=PHASES)
def test_spectra_back_to_samples(
    points: int, share: int, short: bool, normalized: bool, batched: bool, length: int | None
) -> None:
    size, hop = points - 2 * short, max(1, (points - 2 * short) // share)

    def body(x: Tensor) -> Tensor:
        shape = torch.hann_window(size) + 0.1
        x = x if batched else x[0]
        z = torch.stft(x, points, hop, size, shape, normalized=normalized, return_complex=True)
        return torch.istft(z * (0.5 - 0.25j), points, hop, size, shape, normalized=normalized, length=length)

    try:
        body(values(2, 40))
    except RuntimeError:  # torch asks that the windows overlap everywhere
        assume(False)
    assert "istft" not in compared([body], [values(2, 40)], limit=2e-6)


def test_spectra_back_to_samples_without_centre() -> None:
    """Of ones as windows; hann windows reach zero at the recording's ends."""

    def body(x: Tensor) -> list[Tensor]:
        ones = torch.ones(16)
        z = torch.stft(x, 16, 4, window=ones, center=False, return_complex=True)
        back = [torch.istft(z, 16, 4, window=ones, center=False, length=length) for length in (None, 30)]
        return [*back, torch.istft(z * z.abs(), 16, 4, window=ones, center=False)]

    compared([body], [values(1, 40)], limit=2e-6)


def test_transforms_and_sizes_stay_in_float32() -> None:
    """A rounded DFT matrix is another transform."""

    def body(x: Tensor) -> Tensor:
        z = torch.stft(x, 16, 4, window=torch.ones(16), return_complex=True)
        return torch.istft(z / (z.abs() + 1.0), 16, 4, window=torch.ones(16))

    _, graph, fp32 = graph_of([body], [values(1, 40)])
    kept = {name.rstrip("_0123456789") for name in fp32}
    assert kept == {"kept_stft", "kept_istft"}
    assert all(graph.get_submodule(name) is not None for name in fp32)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a logarithm": (lambda x: torch.log(Z(x)).abs(), r"log \(test_pairs.py, line \d+\): complex values go through"),
    "a cube": (lambda x: (Z(x) ** 3).abs(), r"pow .*complex values in a form of torch's 'pow' that has none in pairs"),
    "an inverse": (lambda x: torch.linalg.inv(Z(x)[:, :3]).abs(), r"complex values go through torch's 'linalg_inv"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_in_pairs_is_refused_by_name_and_line(case: str) -> None:
    body, message = REFUSED[case]
    with pytest.raises(ConversionError, match=message):
        graph_of([body], [values(2, 3, 3, 2)])
