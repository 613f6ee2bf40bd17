"""A runtime beside a reference on the same clips: figures for each clip, and their paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.bundle.reference import StreamOutput, stream
from converters.bundle.test_audio import to_rate
from converters.quality.labelled import Labelled, accuracy, mean_average_precision
from converters.quality.pairs import Pair, read_mono
from models.common.errors import UsageError
from models.common.progress import Progress, silent
from models.weights.assets import pull_asset
from runtimes.bundle import Manifest
from runtimes.protocol import Runtime
from streaming.core.decisions import DecisionTracker
from streaming.metrics.intervals import CONFIDENCE, RESAMPLES
from streaming.metrics.quality import Metric, log_spectral_distance_db, measure, pesq_wb, si_sdr_db, stoi

Array = NDArray[np.float32]
Wide = NDArray[np.float64]
Better = Literal["higher", "lower"]

QUALITY_RATE_HZ = 16000  # PESQ and DNSMOS are defined there
TOP = 5
_PERCENT = 100.0


class Kind(NamedTuple):
    """A figure's unit, and which way is better."""

    unit: str
    better: Better


AUDIO_KINDS: Mapping[str, Kind] = {
    "si_sdr": Kind("dB", "higher"),
    "pesq": Kind("MOS 1 to 5", "higher"),
    "stoi": Kind("0 to 1", "higher"),
    "lsd": Kind("dB", "lower"),
    "dnsmos": Kind("MOS 1 to 5", "higher"),
}
# Of a classifier beside the reference, whose own figures are 100 % and 0; then on the labelled folder.
SCORE_KINDS: Mapping[str, Kind] = {
    "top1": Kind("% of windows", "higher"),
    "top5": Kind("% of windows", "higher"),
    "decisions": Kind("% of windows", "higher"),
    "score_error": Kind("mean", "lower"),
    "accuracy": Kind("% of clips", "higher"),
    "map": Kind("%", "higher"),
}
KINDS: Mapping[str, Kind] = {**AUDIO_KINDS, **SCORE_KINDS}


@dataclass(frozen=True)
class Series:
    """One figure on every clip.

    Attributes:
        name: of `KINDS`.
        reference, values: float64 [clips]; of "map", which is of all clips together, [1].
        low, high: the interval of the mean difference at 95 %, by bootstrap over the clips.
    """

    name: str
    reference: Wide
    values: Wide
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Mean over the clips of value minus reference."""
        return float(np.mean(self.values - self.reference))

    @property
    def loss(self) -> float:
        """The difference as a loss: positive where it is worse than the reference."""
        return -self.difference if KINDS[self.name].better == "higher" else self.difference


def names_for(manifest: Manifest, labelled: Labelled | None, dnsmos: bool = False) -> tuple[str, ...]:
    """The figures that there are for a bundle.

    Raises:
        UsageError: a separator, an embedder, or a net of several channels: no figures are defined for it here.
    """
    if manifest.output_kind not in ("audio", "scores") or manifest.geometry.channels != 1 or manifest.far:
        raise UsageError(
            f"{manifest.name}: quality figures are for enhancers and classifiers of one channel; compare this "
            f"{manifest.task} with its original: hearpack verify"
        )
    if manifest.output_kind == "audio":
        if labelled is not None:
            raise UsageError(f"{manifest.name} is an enhancer and gives no labels; leave the labelled folder out")
        return tuple(name for name in AUDIO_KINDS if dnsmos or name != "dnsmos")
    return tuple(n for n in SCORE_KINDS if labelled is not None or n not in ("accuracy", "map"))


class Judge:
    """Judges runtimes of one bundle against its reference.

    Args:
        manifest: of the bundle; enhancers and classifiers of one channel.
        labels: of a classifier.
        reference: what the others are compared with, run on every clip now.
        pairs: clean and noisy speech at the net's rate.
        labelled: of a classifier, clips whose class is known.
        names: which figures; all but DNSMOS by default.
        progress: told how far the reference is.

    Raises:
        UsageError: see `names_for`.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: Sequence[str],
        reference: Runtime,
        pairs: Sequence[Pair],
        labelled: Labelled | None = None,
        names: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> None:
        known = names_for(manifest, labelled, dnsmos=True)
        self.names = names_for(manifest, labelled) if names is None else tuple(n for n in known if n in names)
        self.manifest, self.labels, self.pairs, self.labelled = manifest, tuple(labels), tuple(pairs), labelled
        self._absent: dict[str, str] = {}
        rate = manifest.geometry.sample_rate_hz
        self._clips = [] if labelled is None else [read_mono(file, rate) for file, _ in labelled.clips]
        self._truth = np.array([] if labelled is None else [index for _, index in labelled.clips], np.int64)
        what = "the reference on every clip"
        self._outputs = list(self._run(reference, range(len(self.pairs)), what, progress))
        self._audio: list[dict[str, float]] = []
        if manifest.gives_audio:
            self._audio = [self._heard(p, o) for p, o in zip(self.pairs, self._outputs, strict=True)]
        everything = range(len(self._clips))
        self._classes = self._class_scores(reference, everything, "the reference on the labelled clips", progress)

    @property
    def absent(self) -> dict[str, str]:
        """Figures that cannot be computed here, and why."""
        return dict(self._absent)

    def figures(
        self,
        runtime: Runtime,
        clips: Sequence[int] | None = None,
        labelled: Sequence[int] | None = None,
        what: str = "clips",
        progress: Progress = silent,
    ) -> dict[str, Series]:
        """A runtime's figures beside the reference's.

        Args:
            runtime: of the same inputs and outputs as the reference.
            clips, labelled: which pairs and which labelled clips, by index; all by default.
            what, progress: told how far it is.

        Returns:
            a series a figure, those left out that cannot be computed (see `absent`).
        """
        places = range(len(self.pairs)) if clips is None else clips
        outputs = list(self._run(runtime, places, what, progress))
        if self.manifest.gives_audio:
            return self._audio_figures(places, outputs)
        rows: dict[str, list[float]] = {name: [] for name in ("top1", "top5", "decisions", "score_error")}
        for place, output in zip(places, outputs, strict=True):
            for name, value in self._agreement(self._outputs[place], output).items():
                rows[name].append(value)
        found = {}
        for name in (n for n in self.names if n in rows):
            values = np.array(rows[name], np.float64)
            perfect = 0.0 if name == "score_error" else _PERCENT
            found[name] = _series(name, np.full(values.shape, perfect), values)
        return found | self._on_labelled(runtime, labelled, progress)

    def _run(self, runtime: Runtime, places: Iterable[int], what: str, progress: Progress) -> Iterable[StreamOutput]:
        chosen = list(places)
        for done, place in enumerate(chosen):
            progress(what, done / len(chosen))
            yield stream(self.manifest, runtime, self.pairs[place].noisy)
        progress(what, 1.0)

    def _audio_figures(self, places: Sequence[int], outputs: Sequence[StreamOutput]) -> dict[str, Series]:
        rows = [self._heard(self.pairs[place], output) for place, output in zip(places, outputs, strict=True)]
        found = {}
        for name in self.names:
            both = [(self._audio[p][name], r[name]) for p, r in zip(places, rows, strict=True)
                    if name in r and name in self._audio[p]]  # fmt: skip
            if both:
                reference, values = np.array(both, np.float64).T
                found[name] = _series(name, reference, values)
        return found

    def _heard(self, pair: Pair, output: StreamOutput) -> dict[str, float]:
        """The figures of one enhanced clip; clean speech at 16 kHz is what it is compared with."""
        heard = output.values[self.manifest.geometry.delay_samples :]
        clean, signal = (to_rate(x, pair.sample_rate_hz, QUALITY_RATE_HZ) for x in (pair.clean, heard))
        signal = np.nan_to_num(signal, nan=0.0, posinf=1.0, neginf=-1.0)
        found: dict[str, float] = {}
        metrics: list[Metric] = []
        if "si_sdr" in self.names:
            found["si_sdr"] = max(si_sdr_db(clean, signal), -100.0)
        if "pesq" in self.names:
            metrics.append(pesq_wb(clean, signal, QUALITY_RATE_HZ))
        if "stoi" in self.names:
            metrics.append(stoi(clean, signal, QUALITY_RATE_HZ))
        if "lsd" in self.names:
            found["lsd"] = log_spectral_distance_db(clean, signal, QUALITY_RATE_HZ)
        if "dnsmos" in self.names:
            metrics.append(measure(clean, signal, QUALITY_RATE_HZ, pull_asset("dnsmos"))[-1])
        for metric in metrics:
            name = {"pesq_wb": "pesq", "dnsmos_ovr": "dnsmos"}.get(metric.name, metric.name)
            if metric.value is None:
                self._absent[name] = f"{pair.name}: {metric.absent_reason}"
            else:
                found[name] = metric.value
        return found

    def _agreement(self, reference: StreamOutput, candidate: StreamOutput) -> dict[str, float]:
        """Shares of windows in %, and the mean error of a score."""
        ref, cand = (np.asarray(o.values, np.float64) for o in (reference, candidate))
        cand = np.nan_to_num(cand, nan=0.0, posinf=1.0, neginf=0.0)
        ranks = [np.argsort(-v, axis=1, kind="stable") for v in (ref, cand)]
        top = min(TOP, ref.shape[1])
        same_set = (np.sort(ranks[0][:, :top]) == np.sort(ranks[1][:, :top])).all(axis=1)
        on = [self._on(o) for o in (ref, cand)]
        return {
            "top1": _PERCENT * float(np.mean(ranks[0][:, 0] == ranks[1][:, 0])),
            "top5": _PERCENT * float(np.mean(same_set)),
            "decisions": _PERCENT * float(np.mean((on[0] == on[1]).all(axis=1))),
            "score_error": float(np.mean(np.abs(cand - ref))),
        }

    def _on(self, scores: Wide) -> NDArray[np.bool_]:
        """Which labels are on in which window, by the manifest's decisions: [windows, labels]."""
        decisions = self.manifest.decisions
        if decisions is None:
            raise UsageError(f"{self.manifest.name}: expected a classifier's decisions in the manifest, got none")
        hop = decisions.window_hop_samples
        tracker = DecisionTracker(decisions, self.labels, self.manifest.geometry.sample_rate_hz)
        ends = [hop * (n + 1) for n in range(len(scores))]  # a window stands for the hop that ends with it
        events = [e for found in tracker.push_many(scores.astype(np.float32), ends) for e in found]
        events += tracker.flush(ends[-1])
        on = np.zeros(scores.shape, np.bool_)
        starts = np.array(ends) - hop
        for event in events:
            if event.offset_sample is not None:
                on[(starts >= event.onset_sample) & (starts <= event.offset_sample), event.index] = True
        return on

    def _class_scores(self, runtime: Runtime, places: Sequence[int], what: str, progress: Progress) -> Wide:
        rows: list[Wide] = []
        if self.labelled is None:
            return np.zeros((0, 0), np.float64)
        for done, place in enumerate(places):
            progress(what, done / len(places))
            rows.append(self.labelled.class_scores(stream(self.manifest, runtime, self._clips[place]).values))
        return np.array(rows, np.float64)

    def _on_labelled(self, runtime: Runtime, places: Sequence[int] | None, progress: Progress) -> dict[str, Series]:
        wanted = [name for name in self.names if name in ("accuracy", "map")]
        if self.labelled is None or not wanted or (places is not None and not len(places)):
            return {}
        chosen = np.array(range(len(self._clips)) if places is None else places)
        scores = self._class_scores(runtime, chosen.tolist(), "labelled clips", progress)
        reference, truth = self._classes[chosen], self._truth[chosen]
        found = {}
        if "accuracy" in wanted:
            right = [_PERCENT * accuracy(s, truth) for s in (reference, scores)]
            found["accuracy"] = _series("accuracy", right[0], right[1])
        if "map" in wanted:
            found["map"] = _map_series(reference, scores, truth)
        return found


def _series(name: str, reference: Wide, values: Wide) -> Series:
    apart = values - reference
    drawn = apart[np.random.default_rng(0).integers(0, apart.size, (RESAMPLES, apart.size))].mean(axis=1)
    low, high = np.quantile(drawn, ((1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0))
    return Series(name, reference, values, float(low), float(high))


def _map_series(reference: Wide, scores: Wide, truth: NDArray[np.int64]) -> Series:
    """Mean average precision is of all clips together: the bootstrap draws clips and ranks them again."""
    generator, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES // 5):
        chosen = generator.integers(0, truth.size, truth.size)
        both = [mean_average_precision(s[chosen], truth[chosen]) for s in (reference, scores)]
        drawn.append(_PERCENT * (both[1] - both[0]))
    low, high = np.quantile(drawn, ((1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0))
    values = [np.array([_PERCENT * mean_average_precision(s, truth)]) for s in (reference, scores)]
    return Series("map", values[0], values[1], float(low), float(high))
