"""The Pareto plot: bytes against what is lost, a panel a format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.errors import MissingDependencyError
from models.common.files import atomic_file

if TYPE_CHECKING:
    from converters.search.report import CompressReport


def draw(report: CompressReport, path: Path) -> None:
    """Every plan that was measured on all clips, those that no other beats, uniform int8, and the chosen one.

    Args:
        report: of a search.
        path: the PNG; the same report gives the same bytes.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as exc:
        raise MissingDependencyError("matplotlib", "export", "drawing pictures") from exc
    figure, panels = plt.subplots(1, len(report.formats), figsize=(6 * len(report.formats), 4.5), squeeze=False)
    for panel, result in zip(panels[0], report.formats, strict=True):
        name = _first(result.uniform.losses)
        points = sorted((plan.size_bytes / 1e6, plan.losses.get(name, 0.0)) for plan in result.plans)
        panel.plot(*zip(*points, strict=True), "o", color="0.6", label="measured") if points else None
        panel.plot(*zip(*_best(points), strict=True), "-", color="0.3", label="no other beats it") if points else None
        panel.plot(result.uniform.size_bytes / 1e6, result.uniform.losses.get(name, 0.0), "s", label="int8 everywhere")
        own = next((f for f in result.figures if f.name == name), None)
        if own is not None:
            loss = -own.difference if own.better == "higher" else own.difference
            panel.plot(result.size_bytes / 1e6, loss, "*", markersize=14, label="chosen" if result.met else "nearest")
        panel.set(xlabel="MB", ylabel=f"{name} lost", title=result.artefact)
        panel.legend()
    figure.suptitle(f"{report.name}: {report.budget}")
    _save(figure, plt, path)


def _best(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points by size, those that lose less than every smaller one."""
    front: list[tuple[float, float]] = []
    for size, loss in points:
        if not front or loss < front[-1][1]:
            front.append((size, loss))
    return front


def _first(losses: Any) -> str:
    return next((n for n in ("pesq", "accuracy", "decisions", "top1", *losses) if n in losses), "loss")


def _save(figure: Any, plt: Any, path: Path) -> None:
    with atomic_file(path) as file:
        # No creation date or version inside: same figures, same bytes.
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)
