"""Which language is spoken."""

from __future__ import annotations

import pytest

from denoised.errors import DenoisedError, Exit
from denoised.language import Phrase, reader_language, say, speaking

VARIABLES = ("DENOISED_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(autouse=True)
def _no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_english_where_nothing_is_said() -> None:
    assert reader_language() == "en"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8", "LC_MESSAGES": "ko_KR"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": ""}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "DENOISED_LANG": "en"}, "en"),
        ({"LC_ALL": "en_US.UTF-8", "DENOISED_LANG": "ko"}, "ko"),
    ],
)
def test_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert reader_language() == expected


def test_what_is_chosen_outdoes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    with speaking("ko"):
        assert reader_language() == "ko"
        assert reader_language("en") == "en"
        assert say(ko="확산", en="diffusion") == "확산"
    assert say(ko="확산", en="diffusion") == "diffusion"


@pytest.mark.parametrize("explicit", ["kr", "KO", ""])
def test_a_language_that_we_do_not_write_is_refused(explicit: str) -> None:
    with pytest.raises(DenoisedError) as caught:
        reader_language(explicit)
    assert caught.value.message == f"--lang: no such language `{explicit}`"
    assert caught.value.help == "ko (한국어) or en (English)"
    assert caught.value.code is Exit.USAGE


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "korean")
    with pytest.raises(DenoisedError, match="DENOISED_LANG: no such language `korean`"):
        reader_language()


def test_a_phrase_keeps_both() -> None:
    assert (Phrase(ko="확산", en="diffusion").to("ko"), Phrase(ko="확산", en="diffusion").to("en")) == (
        "확산",
        "diffusion",
    )
