"""`hearpack sign`: a signature over every file of a bundle."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, say

VARIABLE = "HEARPACK_KEY_PASSWORD"


def sign(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    key: Path = typer.Option(..., help="A secret key of minisign's (minisign -G makes one)."),
    json_output: bool = JsonOption,
) -> None:
    """Sign a bundle with a minisign key; verify and install check it with --public-key."""
    from runtimes.bundle.signature import needs_password
    from runtimes.bundle.signature import sign as sign_bundle

    password = os.environ.get(VARIABLE)
    if password is None and needs_password(key):
        password = typer.prompt("password of the key", hide_input=True, err=True)
    result = sign_bundle(bundle, key, password)
    if json_output:
        print_json(result)
        return
    say(f"{result.signature}: signs every file of {result.bundle}")
    say(f"check it with: hearpack verify {result.bundle} --public-key {result.public_key}")
