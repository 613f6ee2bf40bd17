"""YAMNet's window in LiteRT: our graph against a plain conversion of the same net, side by side in one run.

    python bench/yamnet_window.py [--blocks 40] [--calls 10] [--json FILE]

Plain is what a first attempt writes: the STFT as a strided convolution with all 257 bins, unfused batch normalisation
in eval mode, `litert_torch.convert`. Both get the same weights and the same real audio; blocks of calls alternate, so
that a busy machine slows both; the ratio is the median over blocks of ours / plain. One thread, CPU.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from side_by_side import Interpreted, options, save
from torch import Tensor, nn
from torch.nn import functional

from models import pretrained
from models.nets.yamnet import net as yamnet
from models.nets.yamnet.entry import YAMNET
from models.nets.yamnet.weights import CLASSES, conv_names
from models.weights.assets import pull_asset
from models.weights.tensors import MOBILENET_BLOCKS, MOBILENET_STEM
from runtimes.native_output import quiet
from streaming.files.wav import read_wav


class Plain(nn.Module):
    """YAMNet as one would first write it."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        n, bins = np.arange(yamnet.FRAME_SAMPLES), np.arange(yamnet.DFT_POINTS // 2 + 1)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * n / yamnet.FRAME_SAMPLES)
        angles = 2 * np.pi / yamnet.DFT_POINTS * np.outer(bins, n)
        kernel = np.concatenate([np.cos(angles), -np.sin(angles)]) * window
        self.register_buffer("kernel", torch.tensor(kernel[:, None], dtype=torch.float32))
        self.register_buffer("mel", torch.tensor(yamnet.mel_matrix(), dtype=torch.float32))
        channels, layers = MOBILENET_STEM, [self._conv(1, MOBILENET_STEM, 3, 2, 1)]
        for outputs, stride in MOBILENET_BLOCKS:
            layers += [self._conv(channels, channels, 3, stride, channels), self._conv(channels, outputs, 1, 1, 1)]
            channels = outputs
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, CLASSES)
        state = {f"classifier.{part}": torch.tensor(weights[f"classifier.{part}"]) for part in ("weight", "bias")}
        for number, name in enumerate(conv_names()):
            conv, norm = (f"layers.{number}.{len(layers[number]) - place}" for place in (3, 2))
            state[f"{conv}.weight"] = torch.tensor(weights[f"{name}.weight"])
            state[f"{norm}.weight"] = torch.ones(len(weights[f"{name}.bias"]))
            for theirs, ours in (("bias", "bias"), ("running_mean", "mean"), ("running_var", "variance")):
                state[f"{norm}.{theirs}"] = torch.tensor(weights[f"{name}.{ours}"])
        problems = self.load_state_dict(state, strict=False)
        if problems.unexpected_keys or any("num_batches" not in k and "." in k for k in problems.missing_keys):
            raise RuntimeError(f"plain net: {problems}")
        self.eval().requires_grad_(False)

    @staticmethod
    def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
        padding = (0, 1, 0, 1) if stride == 2 else (kernel // 2,) * 4
        conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        return nn.Sequential(nn.ZeroPad2d(padding), conv, nn.BatchNorm2d(outputs, eps=yamnet.BN_EPSILON), nn.ReLU())

    def forward(self, audio: Tensor) -> Tensor:
        spectrum = functional.conv1d(audio[:, None], self.kernel, stride=yamnet.FRAME_HOP_SAMPLES)  # [1, 514, 96]
        real, imaginary = spectrum.chunk(2, dim=1)
        magnitude = torch.sqrt(real**2 + imaginary**2).transpose(1, 2)
        log_mel = torch.log(magnitude @ self.mel + yamnet.LOG_OFFSET)
        return torch.sigmoid(self.classifier(self.layers(log_mel[:, None]).mean(dim=(2, 3))))


def _convert(net: nn.Module, file: Path) -> Interpreted:
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        import litert_torch

        litert_torch.convert(net, (torch.zeros(1, YAMNET.geometry.window_samples),)).export(str(file))
    return Interpreted(file)


def measure(blocks: int, calls: int) -> dict[str, Any]:
    """Convert both, check that they agree, time alternating blocks."""
    torch.set_num_threads(1)
    arrays = pretrained.load("yamnet")
    street = read_wav(pull_asset("street-wav")).samples[:1]
    starts = range(0, street.shape[1] - YAMNET.geometry.window_samples, YAMNET.geometry.hop_samples)
    windows = [np.ascontiguousarray(street[:, at : at + YAMNET.geometry.window_samples], np.float32) for at in starts]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.tflite" for name in ("ours", "plain")}
        runners = {
            "ours": _convert(yamnet.graph(yamnet.build(arrays)), files["ours"]),
            "plain": _convert(Plain(arrays).eval(), files["plain"]),
        }
        both = ([runner.whole_call(window)[0] for runner in runners.values()] for window in windows[10:20])
        difference = max(float(np.abs(ours - plain).max()) for ours, plain in both)
        if difference > 1e-3:
            raise RuntimeError(f"the two nets differ by {difference:g}: this would compare different things")
        times: dict[str, list[float]] = {name: [] for name in runners}
        for block in range(blocks):
            for name in sorted(runners, reverse=block % 2 == 1):
                start = time.perf_counter()
                for call in range(calls):
                    runners[name].whole_call(windows[(block * calls + call) % len(windows)])
                times[name].append((time.perf_counter() - start) / calls * 1e3)
        sizes = {name: file.stat().st_size for name, file in files.items()}
    return {
        "ours_ms": float(np.median(times["ours"])),
        "plain_ms": float(np.median(times["plain"])),
        "ours_min_ms": min(times["ours"]),
        "plain_min_ms": min(times["plain"]),
        "ratio": float(np.median(np.divide(times["ours"], times["plain"]))),
        "largest_score_difference": difference,
        "bytes": sizes,
        "ops": {name: runner.ops() for name, runner in runners.items()},
        "blocks": blocks,
        "calls_per_block": calls,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--calls", type=int, default=10)
    arguments = parser.parse_args()
    figures = measure(arguments.blocks, arguments.calls)
    for name in ("ours", "plain"):
        typical, least = figures[f"{name}_ms"], figures[f"{name}_min_ms"]
        print(f"{name:5} {typical:.3f} ms per call (least {least:.3f}), {figures['bytes'][name]} bytes")
    print(f"ratio {figures['ratio']:.3f} (ours / plain, median of {figures['blocks']} pairs of blocks)")
    save(arguments.json, figures, sort_keys=True)


if __name__ == "__main__":
    main()
