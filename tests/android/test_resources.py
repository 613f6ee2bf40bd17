"""Texts in four languages, colours that can be read, and no text that is not a resource."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tools.android import parts

RES = parts.SAMPLE / "app/src/main/res"
LANGUAGES = ("de", "fr", "zh")


def _strings(folder: str) -> dict[str, str]:
    root = ET.parse(RES / folder / "strings.xml").getroot()
    return {s.get("name", ""): s.text or "" for s in root if s.get("translatable") != "false"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_there_in_every_language(language: str) -> None:
    english, other = _strings("values"), _strings(f"values-{language}")
    assert list(other) == list(english)
    same = [n for n in english if other[n] == english[n] and len(re.sub(r"%\d\$[\w.]+|\W", "", english[n])) > 12]
    assert not same, "not translated"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_same_places_for_figures(language: str) -> None:
    english, other = _strings("values"), _strings(f"values-{language}")
    for name, text in english.items():
        places = sorted(re.findall(r"%\d\$[\d.]*\w|%%", text))
        assert sorted(re.findall(r"%\d\$[\d.]*\w|%%", other[name])) == places, name
        assert not re.search(r"(?<!\\)'", other[name]), f"{name}: an apostrophe needs its backslash"


def test_no_text_but_of_resources() -> None:
    for file in RES.rglob("layout*/*.xml"):
        for text in re.findall(r'android:(?:text|contentDescription|hint)="([^"]*)"', file.read_text(encoding="utf-8")):
            assert text.startswith("@string/"), f"{file.name}: {text}"
    for file in parts.sources("app/src/main"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert not re.search(r'(?:\.text|contentDescription) = "|put\(R\.id\.\w+, "\w', line), (
                f"{file.name}: {line}"
            )


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2's ratio, 1 to 21."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_is_wcags() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("values", "background"), [("values", "#fafafa"), ("values-night", "#303030")])
def test_colours_can_be_read(values: str, background: str) -> None:
    """Text 4.5, what only has to be seen 3: the accent marks choices on Material's own background."""
    colours = {c.get("name"): c.text or "" for c in ET.parse(RES / values / "colors.xml").getroot()}
    assert contrast(colours["notice"], colours["notice_text"]) >= 4.5
    assert contrast(colours["accent"], background) >= 3.0


@pytest.mark.parametrize(("values", "light"), [("values", "true"), ("values-night", "false")])
def test_status_icons_are_dark_on_light(values: str, light: str) -> None:
    theme = (RES / values / "themes.xml").read_text(encoding="utf-8")
    assert f'<item name="android:windowLightStatusBar">{light}</item>' in theme


def test_a_screen_reader_hears_of_little_and_of_all_that_matters() -> None:
    name = "{http://schemas.android.com/apk/res/android}"
    live = {
        e.get(f"{name}id"): e.get(f"{name}accessibilityLiveRegion")
        for e in ET.parse(RES / "layout/main.xml").getroot().iter()
        if e.get(f"{name}accessibilityLiveRegion")
    }
    assert live == {"@+id/model": "polite", "@+id/notice": "assertive", "@+id/newest": "polite"}
