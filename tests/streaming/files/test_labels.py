"""Label files of every form that people have, read by what their headers say; each fault is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.common.errors import UsageError
from streaming.files.labels import Interval, read_labels

LABELS = ("Bell", "Dog", "Rain", "Chink, clink", "Bicycle bell")
BOTH = (Interval("Dog", 0.5, 0.75), Interval("Bell", 1.0, 2.0))
GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? <exists>\nsize = 2\nitem []:\n'
    '    item [1]:\n        class = "IntervalTier"\n        name = "tier 1"\n        xmin = 0\n        xmax = 2\n'
    "        intervals: size = 3\n        intervals [1]:\n            xmin = 0\n            xmax = 0.5\n"
    '            text = ""\n        intervals [2]:\n            xmin = 0.5\n            xmax = 0.75\n'
    '            text = "Dog"\n        intervals [3]:\n            xmin = 1\n            xmax = 2\n'
    '            text = "Bell"\n    item [2]:\n        class = "TextTier"\n        name = "points"\n        xmin = 0\n'
    "        xmax = 2\n        points: size = 0\n"
)
SHORT_GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n1\n"IntervalTier"\n"a"\n0\n2\n3\n'
    '0\n0.5\n""\n0.5\n0.75\n"Dog"\n1\n2\n"Bell"\n'
)
FORMS = {
    "header": "onset_s,offset_s,label\n1.0,2.0,Bell\n0.5,0.75,Dog\n",
    "none": "1.0,2.0,Bell\n0.5,0.75,Dog\n\n",
    "audacity": "1.0\t2.0\tBell\n0.5\t0.75\tDog\n",
    "windows": "\ufeff1.0,2.0,Bell\r\n0.5,0.75,Dog\r\n",
    "frequency rows": "1.0\t2.0\tBell\n\\\t1500.0\t5500.0\n0.5\t0.75\tDog\n\\\t900.0\t950.0\n",
    "decimal comma": "1,0\t2,0\tBell\n0,5\t0,75\tDog\n",
    "a decimal comma in the first line only": "1,0\t2,0\tBell\n0.5\t0.75\tDog\n",
    "semicolons": "onset;offset;label\n1,0;2,0;Bell\n0,5;0,75;Dog\n",
    "durations": "onset,duration,label\n1.0,1.0,Bell\n0.5,0.25,Dog\n",
    "BIDS": "onset\tduration\tsample\ttrial_type\n1.0\t1.0\t44100\tBell\n0.5\t0.25\t22050\tDog\n",
    "milliseconds": "onset_ms,offset_ms,label\n1000,2000,Bell\n500,750,Dog\n",
    "other order": "label,end,start\nBell,2.0,1.0\nDog,0.75,0.5\n",
    "a column more": "label,id,confidence,offset,onset\nBell,7,0.9,2.0,1.0\nDog,8,0.8,0.75,0.5\n",
    "DCASE": "filename\tonset\toffset\tevent_label\na.wav\t1.0\t2.0\tBell\nb.wav\t0\t9\tRain\na.wav\t0.5\t0.75\tDog\n",
    "sed_eval": "a.wav\tstreet\t1.0\t2.0\tBell\na.wav\tstreet\t0.5\t0.75\tDog\n",
    "sed_eval without scene": "audio/a.wav\t1.0\t2.0\tBell\naudio/a.wav\t0.5\t0.75\tDog\n",
    "AudioSet strong": "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    "b0_30\t1.0\t2.0\tBell\nb0_30\t.5\t.75\tDog\n",
    "Raven": "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies\n"
    "1\tWaveform 1\t1\t1.0\t2.0\t0\tBell\n1\tSpectrogram 1\t1\t1.0\t2.0\t0\tBell\n"
    "2\tSpectrogram 1\t1\t0.5\t0.75\t9\tDog\n",
    "spaces": "1.0 2.0 Bell\n0.5   0.75   Dog\n",
    "spaces around": " onset , offset , label \n 1.0 , 2.0 , Bell \n 0.5 , 0.75 , Dog \n",
    "comments": "# by me\nonset,offset,label\n# a bell\n1.0,2.0,Bell\n0.5,0.75,Dog\n",
    "commented header": "#onset,offset,label\n1.0,2.0,Bell\n0.5,0.75,Dog\n",
    "clock times": "start,end,label\n0:00:01.0,0:02,Bell\n0:00.5,0:00:00.75,Dog\n",
    "WebVTT": "WEBVTT\n\nNOTE by me\n\n00:01.000 --> 00:02.000 align:left\n"
    "<v Me>Bell\n\n7\n00:00:00.500 --> 00:00:00.750\nDog\n",
    "SRT": "1\n00:00:01,000 --> 00:00:02,000\nBell\n\n2\n00:00:00,500 --> 00:00:00,750\nDog\n",
    "TextGrid": GRID,
    "short TextGrid": SHORT_GRID,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_forms_of_label_files(form: str, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(FORMS[form].lstrip("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    assert read_labels(file, LABELS, 2.0, recording="a.wav") == BOTH


def read(tmp_path: Path, text: str, label: str | None = None, recording: str = "a.wav") -> tuple[Interval, ...]:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    return read_labels(file, LABELS, 60.0, label, recording)


def test_lines_without_a_label_mean_the_one_that_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, "0.0,1.3,189765,True\n1.3,6.9,344574,False\n", "Bell") == (Interval("Bell", 0.0, 1.3),)
    assert read(tmp_path, "0.0,1.3\n", "Rain") == (Interval("Rain", 0.0, 1.3),)
    assert read(tmp_path, "0.0\t1.3\t\n", "Rain") == (Interval("Rain", 0.0, 1.3),)
    assert read(tmp_path, "onset,duration\n1,2\n", "Rain") == (Interval("Rain", 1.0, 3.0),)
    assert read(tmp_path, "onset,duration,trial_type\n1,2,n/a\n", "Rain") == (Interval("Rain", 1.0, 3.0),)
    strong = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\nb0_30000\t1\t2\t/m/0gy1t2s\n"
    assert read(tmp_path, strong, "Bicycle bell") == (Interval("Bicycle bell", 1.0, 2.0),)


def test_labels_with_commas_points_and_whole_recordings(tmp_path: Path) -> None:
    for text in ('1,2,"Chink, clink"\n', "onset,offset,label\n1,2,Chink, clink\n", "1\t2\tChink, clink\n"):
        assert read(tmp_path, text) == (Interval("Chink, clink", 1.0, 2.0),)
    assert read(tmp_path, "1.5\t1.5\tBell\n") == (Interval("Bell", 1.5, 1.5),)
    esc = "filename,fold,target,category,esc10\na.wav,1,0,Bell,True\nb.wav,1,0,Dog,True\n"
    assert read(tmp_path, esc) == (Interval("Bell", 0.0, 60.0),)


def test_an_end_up_to_a_second_late_is_cut(tmp_path: Path) -> None:
    assert read(tmp_path, "50,60.9,Bell\n") == (Interval("Bell", 50.0, 60.0),)


FAULTS = {
    "": "holds no labels",
    "onset,offset,label\n": "holds no labels",
    "1,2,Bel\n": "line 1: 'Bel' is no label of this bundle; nearest: Bell",
    "1,2,3,True\n": "names no label; tell which one is meant with --label",
    "1,2\n": "names no label",
    "2,1,Bell\n": "0 <= onset <= offset, got 2 and 1 s; is the second one a duration?",
    "-1,1,Bell\n": "0 <= onset <= offset, got -1 and 1 s",
    "1,2,Bell\nx,3,Bell\n": "line 2: expected onset,offset,label",
    "1,nan,Bell\n": "line 1: expected onset,offset,label",
    "90,91,Bell\n": "begins at 90 s, the recording lasts 60.000 s",
    "1,1326,Bell\n": "ends at 1326 s, the recording lasts 60.000 s; are these milliseconds",
    "59,61.1,Bell\n": "ends at 61.1 s",
    "onset,duration,label\n10,55,Bell\n": "ends at 65 s",
    "hello,there,you\n1,2,Bell\n": "line 1: expected onset,offset,label",
    "onset,label\n1,Bell\n": "names an onset but neither an offset nor a duration",
    "duration,label\n1,Bell\n": "names no onset",
    "label,onset_sample,offset_sample\nBell,1,2\n": "gives times in samples",
    "onset,offset,label\n1,,Bell\n": "line 2: expected a time in column 2, got nothing",
    "onset,offset,label\n1,soon,Bell\n": "line 2: expected a time in column 2, got 'soon'",
    "filename,onset,offset,label\nb.wav,1,2,Bell\n": "labels b.wav, not a.wav",
    "filename,category\nb.wav,Bell\n": "labels b.wav, not a.wav",
    "onset,offset,label\n1,2,/m/01\n": "is an AudioSet id",
    "WEBVTT\n\n00:01 --> x\nBell\n\n00:02.000 --> 00:03.000\nBell\n": "line 3: expected 00:00:01.000 --> 00:00:02.500",
    GRID[:500]: "is a TextGrid that ends too early",
    '[{"onset": 1, "offset": 2, "label": "Bell"}]': "line 1: expected onset,offset,label",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_of_label_files_are_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert FAULTS[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_no_line_is_of_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--label 'Dog': the lines of .* name their labels: Bell; leave --label out"):
        read(tmp_path, "1,2,Bell\n", "Dog")
    assert read(tmp_path, "1,2,Bell\n3,4,Dog\n", "Dog") == (Interval("Bell", 1.0, 2.0), Interval("Dog", 3.0, 4.0))
    with pytest.raises(UsageError, match="write the names instead"):
        read(tmp_path, "onset,offset,label\n1,2,/m/01\n3,4,/m/02\n", "Bell")


def test_a_label_file_that_is_absent_or_binary(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "absent.csv", LABELS, 1.0)
    for data in (bytes(range(256)), b"1,2,Bell\n\0\0"):
        (tmp_path / "binary.csv").write_bytes(data)
        with pytest.raises(UsageError, match="cannot be read"):
            read_labels(tmp_path / "binary.csv", LABELS, 1.0)
    with pytest.raises(UsageError, match="--label: 'Bel' is no label"):
        read_labels(tmp_path / "absent.csv", LABELS, 1.0, "Bel")
