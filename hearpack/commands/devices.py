"""`hearpack devices`: the profiles that simulate can be given, and one of them figure by figure with its sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, print_json, say, show_table

if TYPE_CHECKING:
    from streaming.simulator.device.profile import DeviceProfile


def devices(
    name: str | None = typer.Argument(None, help="A device, or a .toml: show every figure with its source."),
    json_output: bool = JsonOption,
) -> None:
    """List the device profiles, or show one."""
    from streaming.simulator.device import profile

    found = profile.devices() if name is None else profile.devices(name)
    if json_output:
        records = [p.record() for p in found]
        print_json(records if name is None else records[0])
    elif name is None:
        show_table(("device", "rate", "block", "route in + out", "slowdown", ""), map(_row, found))
        say("* an assumption; a profile fitted from a device's trace replaces it: hearpack fit-device")
    else:
        record = found[0].record()
        rows = [(key, str(figure.value), figure.source) for key, figure in record.figures.items()]
        show_table(("figure", "value", "source"), rows, f"{record.name}: {record.title}")


def _row(p: DeviceProfile) -> tuple[str, ...]:
    low, high = p.block_frames
    block = f"{high}" if low == high else f"{low}-{high}"
    assumed = "*" if p.record().figures["slowdown"].source.startswith("assumption") else ""
    routes = f"{p.input_latency_ms:g} + {p.output_latency_ms:g} ms"
    return (p.name, f"{p.rate_hz} Hz", block, routes, f"{p.slowdown:g}{assumed}", p.title)
