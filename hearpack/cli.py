"""The command `hearpack`. Light: a command's heavy imports happen when it runs."""

from __future__ import annotations

import os
import sys

import typer

from hearpack import __version__
from hearpack.commands import (
    advise,
    calibrate,
    coldstart,
    demo,
    devices,
    doctor,
    export,
    fit_device,
    gate,
    inspect,
    install,
    models,
    predict,
    pull,
    report,
    run,
    scaffold,
    simulate,
    tune,
    verify,
)
from models.common.errors import HearpackError

app = typer.Typer(
    name="hearpack",
    help="Package audio classifiers and speech enhancers for iOS and Android.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    models.models,
    pull.pull,
    export.export,
    scaffold.scaffold,
    verify.verify,
    inspect.inspect,
    run.run,
    predict.predict,
    simulate.simulate,
    devices.devices,
    calibrate.calibrate,
    fit_device.fit_device,
    coldstart.coldstart,
    advise.advise,
    tune.tune,
    gate.gate,
    report.report,
    install.install,
    demo.demo,
    doctor.doctor,
):
    app.command()(command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hearpack {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Package audio classifiers and speech enhancers for iOS and Android."""


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a verification is past its tolerance, 2 wrong input (one line on stderr), 130 interrupted.
    """
    try:
        app()
    except HearpackError as exc:
        sys.stderr.write("hearpack: " + " ".join(str(exc).split()) + "\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("hearpack: interrupted; nothing half-written was left\n")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (hearpack ... | head): not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
