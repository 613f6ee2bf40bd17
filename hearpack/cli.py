"""The command `hearpack`. Light: a command's heavy imports happen when it runs."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hearpack import __version__
from hearpack.commands import (
    advise,
    batch,
    calibrate,
    clean,
    coldstart,
    compress,
    demo,
    devices,
    doctor,
    export,
    fit_device,
    gate,
    inspect,
    install,
    look,
    models,
    predict,
    pull,
    quality,
    report,
    run,
    scaffold,
    sign,
    simulate,
    tune,
    verify,
)
from hearpack.ending import StoppedError, in_one_line, take_debug_switch
from hearpack.interrupt import interruptible


class _FlagsTakeNothing:
    """Help names no type behind a flag: `--json`, not `--json <bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for flag in (param for param in params if getattr(param, "is_flag", False)):
            flag.metavar = ""
        return params


class _Command(_FlagsTakeNothing, TyperCommand):
    pass


class _Group(_FlagsTakeNothing, TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as exc:  # typer would end these itself, without a word
            raise StoppedError(exc) from exc


app = typer.Typer(
    name="hearpack",
    cls=_Group,
    help="Package audio classifiers and speech enhancers for iOS and Android.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS = {
    "Make a bundle": (
        models.models,
        pull.pull,
        scaffold.scaffold,
        look.look,
        export.export,
        compress.compress,
        verify.verify,
        inspect.inspect,
        sign.sign,
        install.install,
        demo.demo,
        doctor.doctor,
        clean.clean,
    ),
    "Simulate": (simulate.simulate, devices.devices, fit_device.fit_device),
    "Measure": (run.run, predict.predict, quality.quality, calibrate.calibrate, coldstart.coldstart),
    "Offline": (batch.batch,),
    "Decide": (tune.tune, advise.advise, gate.gate, report.report),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(cls=_Command, rich_help_panel=panel)(command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hearpack {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error; anywhere in the line, or HEARPACK_DEBUG=1."
    ),
) -> None:
    """Package audio classifiers and speech enhancers for iOS and Android."""


def main() -> None:
    """Run the command line; `hearpack.__main__` does so too, and hears Ctrl-C while all of this is imported."""
    with interruptible():
        run_line()


def run_line() -> None:
    """Run the command line; Ctrl-C is somebody else's.

    Exit codes: 0 done, 1 a verification is past its tolerance, 2 wrong input or a place that cannot be used (one line
    on stderr), 3 a fault of hearpack (one line too), 130 interrupted.
    """
    with in_one_line(debug=take_debug_switch(sys.argv)):
        app()
