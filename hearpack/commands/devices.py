"""`hearpack devices`: the profiles that simulate can be given, and one of them figure by figure with its sources."""

from __future__ import annotations

import typer

from hearpack.commands.shared import JsonOption, print_json, wide_console


def devices(
    name: str | None = typer.Argument(None, help="A device, or a .toml: show every figure with its source."),
    json_output: bool = JsonOption,
) -> None:
    """List the device profiles, or show one."""
    from rich.table import Table

    from streaming.simulator.device.profile import load_profile, profile_names

    if name is not None:
        record = load_profile(name).record()
        if json_output:
            print_json(record)
            return
        table = Table("figure", "value", "source", box=None, pad_edge=False, title=f"{record.name}: {record.title}")
        for key, figure in record.figures.items():
            table.add_row(key, str(figure.value), figure.source)
        wide_console().print(table)
        return
    profiles = [load_profile(n) for n in profile_names()]
    if json_output:
        print_json([p.record() for p in profiles])
        return
    table = Table("device", "rate", "block", "route in + out", "slowdown", "", box=None, pad_edge=False)
    for p in profiles:
        low, high = p.block_frames
        block = f"{high}" if low == high else f"{low}-{high}"
        assumed = "*" if p.record().figures["slowdown"].source.startswith("assumption") else ""
        routes = f"{p.input_latency_ms:g} + {p.output_latency_ms:g} ms"
        table.add_row(p.name, f"{p.rate_hz} Hz", block, routes, f"{p.slowdown:g}{assumed}", p.title)
    console = wide_console()
    console.print(table)
    console.print("* an assumption; a profile fitted from a device's trace replaces it: hearpack fit-device")
