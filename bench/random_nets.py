"""Random causal nets of many layer kinds through the door: which are proven, which are refused, and why.

    python bench/random_nets.py --nets 300 --seed 1

Each net is two to five bodies of the kinds below between an encoder and a decoder. It is captured, its state taken out
for calls of one and two hops, every value proven against the offline net in float64, and what is exported run against
the net itself for 24 calls. A net must be proven or refused with a sentence; anything else is a fault, and exit code 1.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.errors import ConversionError
from models.custom.causal.convert import to_external_state
from models.custom.causal.offline import noise
from models.custom.causal.proof import prove
from models.custom.entry import CustomEntry, CustomOriginal
from models.geometry import StreamGeometry, TensorSpec

HOP, WIDTH = 32, 8


class Do(nn.Module):
    """A function as a module, with layers of its own."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


def turned(layer: nn.Module) -> nn.Module:
    """A layer over the features of [1, features, frames]."""
    return Do(lambda x, m: m(x.transpose(1, 2)).transpose(1, 2), layer)


def recurrent(layer: nn.Module) -> nn.Module:
    return Do(lambda x, m: m(x.transpose(1, 2))[0].transpose(1, 2), layer)


def set_slice(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, ::2] = 0.5 * y[:, 1::2]
    return y


def smoothed(x: Tensor) -> Tensor:
    level, rows = torch.zeros(1, WIDTH), []
    for t in range(x.shape[-1]):
        level = 0.8 * level + 0.2 * x[..., t].abs()
        rows.append(level)
    return x / (torch.stack(rows, -1) + 0.1)


def cells(x: Tensor, cell: nn.Module) -> Tensor:
    h, rows = torch.zeros(1, WIDTH), []
    for frame in x.unbind(-1):
        h = cell(frame, h)
        rows.append(h)
    return torch.stack(rows, -1)


def local(x: Tensor) -> Tensor:
    keys = F.pad(x, (3, 0)).unfold(2, 4, 1)
    weights = torch.softmax((x.unsqueeze(-1) * keys).sum(1), -1)
    return (weights.unsqueeze(1) * keys).sum(-1)


def spectral(x: Tensor) -> Tensor:
    y = torch.fft.rfft(x, dim=1)
    return torch.fft.irfft(y * torch.sigmoid(y.abs()), n=WIDTH, dim=1)


def mean_so_far(x: Tensor) -> Tensor:
    return x - torch.cumsum(x, 2) / torch.arange(1, x.shape[2] + 1)


def in_frame(x: Tensor, rnn: nn.Module, back: nn.Module) -> Tensor:
    y, _ = rnn(x.transpose(1, 2).reshape(-1, WIDTH, 1))
    return back(y).reshape(1, -1, WIDTH).transpose(1, 2)


def two_d(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(F.pad(x.unsqueeze(1), (2, 0)))[:, 0]


def down_up(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    return x + up(torch.relu(down(F.pad(x.repeat_interleave(2, 2), (2, 0)))))[..., : x.shape[2]]


def delayed(frames: int) -> nn.Module:
    return Do(lambda x: x + F.pad(x, (frames, 0))[..., :-frames])


def rolled(features: int) -> nn.Module:
    return Do(lambda x: x.roll(features, 1))


KINDS: dict[str, Callable[[random.Random], nn.Module]] = {
    "conv, padded in front": lambda r: Do(
        lambda x, c: c(F.pad(x, ((c.kernel_size[0] - 1) * c.dilation[0], 0))),
        nn.Conv1d(WIDTH, WIDTH, r.randint(2, 5), dilation=r.randint(1, 3), groups=r.choice([1, 2, 8])),
    ),
    "conv, cut behind": lambda r: Do(
        lambda x, c: c(x)[..., : x.shape[2]], nn.Conv1d(WIDTH, WIDTH, (k := r.randint(2, 4)), padding=k - 1)
    ),
    "conv, both sides": lambda _: nn.Conv1d(WIDTH, WIDTH, 3, padding=1),
    "conv 2-D": lambda _: Do(two_d, nn.Conv2d(1, 1, 3, padding=(1, 0))),
    "pointwise": lambda _: nn.Conv1d(WIDTH, WIDTH, 1),
    "transposed": lambda r: Do(
        lambda x, c: c(x)[..., : x.shape[2]], nn.ConvTranspose1d(WIDTH, WIDTH, r.randint(1, 4), groups=r.choice([1, 2]))
    ),
    "down and up": lambda _: Do(down_up, nn.Conv1d(WIDTH, WIDTH, 4, 2), nn.ConvTranspose1d(WIDTH, WIDTH, 2, 1)),
    "gru": lambda r: recurrent(nn.GRU(WIDTH, WIDTH, r.randint(1, 2), batch_first=True)),
    "lstm": lambda _: recurrent(nn.LSTM(WIDTH, WIDTH, batch_first=True)),
    "lstm, projected": lambda _: recurrent(nn.LSTM(WIDTH, 2 * WIDTH, proj_size=WIDTH, batch_first=True)),
    "rnn": lambda r: recurrent(nn.RNN(WIDTH, WIDTH, batch_first=True, nonlinearity=r.choice(["tanh", "relu"]))),
    "bidirectional": lambda _: recurrent(nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)),
    "gru in a frame": lambda _: Do(in_frame, nn.GRU(1, 2, batch_first=True, bidirectional=True), nn.Linear(4, 1)),
    "cells in a loop": lambda _: Do(cells, nn.GRUCell(WIDTH, WIDTH)),
    "smoothing in a loop": lambda _: Do(smoothed),
    "layer norm": lambda _: turned(nn.LayerNorm(WIDTH)),
    "batch norm": lambda _: nn.BatchNorm1d(WIDTH),
    "instance norm": lambda _: nn.InstanceNorm1d(WIDTH),
    "group norm over time": lambda _: nn.GroupNorm(2, WIDTH),
    "linear": lambda _: turned(nn.Linear(WIDTH, WIDTH)),
    "weight norm": lambda _: nn.utils.parametrizations.weight_norm(nn.Conv1d(WIDTH, WIDTH, 1)),
    "cumulative mean": lambda _: Do(mean_so_far),
    "cumsum": lambda _: Do(lambda x: torch.cumsum(x, 2) / 30.0),
    "cummax": lambda _: Do(lambda x: torch.cummax(x, 2)[0]),
    "local attention": lambda _: Do(local),
    "attention": lambda _: Do(
        lambda x: F.scaled_dot_product_attention(x.transpose(1, 2), x.transpose(1, 2), x.transpose(1, 2)).transpose(
            1, 2
        )
    ),
    "attention in a frame": lambda _: Do(
        lambda x: F.scaled_dot_product_attention(*[x.permute(2, 1, 0)] * 3).permute(2, 1, 0)
    ),
    "fft over features": lambda _: Do(spectral),
    "delay": lambda r: delayed(r.randint(1, 3)),
    "difference": lambda _: Do(lambda x: F.pad(x, (1, 0)).diff(dim=2)),
    "slice assignment": lambda _: Do(set_slice),
    "where": lambda _: Do(lambda x: torch.where(x > 0, x, 0.1 * x) * (x.abs() > 0.01)),
    "branch on rank": lambda _: Do(lambda x: torch.tanh(x) if x.dim() == 3 else x),
    "chunk and gate": lambda _: Do(lambda x, c: F.glu(c(x), 1), nn.Conv1d(WIDTH, 2 * WIDTH, 1)),
    "repeat and pool": lambda _: Do(lambda x: F.max_pool1d(x.repeat_interleave(2, 2), 2)),
    "nearest and pool": lambda _: Do(lambda x: F.avg_pool1d(F.interpolate(x, scale_factor=2.0), 2)),
    "roll features": lambda r: rolled(r.randint(1, 3)),
    "flip features": lambda _: Do(lambda x: x.flip(1)),
    "flip time": lambda _: Do(lambda x: x.flip(2)),
    "mean over time": lambda _: Do(lambda x: x - x.mean(2, keepdim=True)),
    "softmax over time": lambda _: nn.Softmax(2),
    "prelu": lambda _: nn.PReLU(WIDTH),
    "elu": lambda _: nn.ELU(),
    "gelu": lambda _: nn.GELU(),
    "hardswish": lambda _: nn.Hardswish(),
    "normalize": lambda _: Do(lambda x: F.normalize(x, dim=1)),
    "reflect in a frame": lambda _: Do(
        lambda x: F.pad(x.transpose(1, 2), (1, 1), mode="reflect")[..., 1:-1].transpose(1, 2) + 0.1 * x
    ),
    "residual": lambda _: Do(lambda x, c: x + 0.3 * torch.tanh(c(x)), nn.Conv1d(WIDTH, WIDTH, 1)),
}


class Net(nn.Module):
    """Bodies between an encoder and a decoder."""

    def __init__(self, bodies: list[nn.Module]) -> None:
        super().__init__()
        self.encode = nn.Conv1d(1, WIDTH, 2 * HOP, stride=HOP)
        self.bodies = nn.Sequential(*bodies)
        self.decode = nn.ConvTranspose1d(WIDTH, 1, 2 * HOP, stride=HOP)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.encode(F.pad(audio, (HOP, 0)).unsqueeze(1))
        return self.decode(self.bodies(x))[:, 0, : audio.shape[-1]]


def entry_of(net: nn.Module, lookahead: str) -> CustomEntry:
    """An enhancer's entry with the net in it."""
    return CustomEntry(
        name="random",
        task="enhancer",
        summary="",
        factory="random:net",
        geometry=StreamGeometry(16000, 1, 64, HOP, 0),
        buffer_kind="step",
        max_hops=8,
        output=TensorSpec("enhanced", (1, HOP), (-1.0, 1.0), ""),
        parameters_millions=0.0,
        paper="",
        form="causal",
        original=CustomOriginal("random:net"),
        net=net.eval(),
        lookahead=lookahead,  # type: ignore[arg-type]
    )


def tried(seed: int) -> tuple[str, str]:
    """One net: "proven", "refused" or "fault", and why."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    names = [draw.choice(list(KINDS)) for _ in range(draw.randint(2, 5))]
    net = Net([KINDS[name](draw) for name in names]).eval()
    entry = entry_of(net, draw.choice(["refuse", "delay"]))
    try:
        for hops in (1, 2):
            stream = to_external_state(entry, hops)
            prove(entry, stream)
        late = stream.lookahead_samples
        audio = noise(48 * HOP, 7)
        states = [torch.zeros(s.shape) for s in stream.states]
        parts = []
        with torch.no_grad():
            for part in torch.split(audio, 2 * HOP, 1):
                out, *states = stream.graph(part, *states)
                parts.append(out)
            truth = net(audio)
        came = torch.cat(parts, 1)[:, late:]
        wrong = float((came - truth[:, : came.shape[1]]).abs().max() / truth.abs().max())
        if not wrong < 1e-3:
            return "fault", f"{names}: what is exported differs by {wrong:.2g}"
    except ConversionError as exc:
        reason = str(exc.args[0])
        if "report this net" in reason:
            return "fault", f"{names}: {reason}"
        return "refused", re.sub(r"^.*?: ", "", reason, count=1)
    except Exception as exc:  # any other is what is looked for
        return "fault", f"{names}: {type(exc).__name__}: {exc}"
    return "proven", ""


def main() -> int:
    """Print what came of each, grouped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began, count, reasons = time.process_time(), collections.Counter[str](), collections.Counter[str]()
    for number in range(given.nets):
        seed = given.seed * 100_000 + number
        what, why = tried(seed)
        count[what] += 1
        if what == "fault":
            print(f"seed {seed}: {why}", flush=True)
        elif why:
            reasons[re.sub(r"\d[\d.e+-]*", "n", why)[:100]] += 1
    for why, times in reasons.most_common():
        print(f"{times:4d} refused: {why}")
    spent = time.process_time() - began
    print(f"{given.nets} nets of {len(KINDS)} kinds, seed {given.seed}: {dict(count)}; {spent:.0f} s CPU")
    return 1 if count["fault"] else 0


if __name__ == "__main__":
    sys.exit(main())
