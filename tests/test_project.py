"""Where the project is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoised import project
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from denoised.project import find_root


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DENOISED_ROOT", raising=False)
    root = (tmp_path / "checkout").resolve()
    (root / "papers" / "ddim").mkdir(parents=True)
    (root / "catalog.yaml").touch()
    return root


def test_the_nearest_folder_above_that_holds_a_catalog(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (checkout, checkout / "papers" / "ddim"):
        monkeypatch.chdir(folder)
        assert find_root() == checkout


def test_a_variable_outdoes_the_current_folder(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DENOISED_ROOT", str(checkout))
    assert find_root() == checkout


def test_a_variable_that_names_another_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISED_ROOT", str(tmp_path))
    with speaking("en"), pytest.raises(DenoisedError) as caught:
        find_root()
    assert caught.value.message == f"DENOISED_ROOT={tmp_path} holds no catalog.yaml"


def test_elsewhere_it_is_the_checkout_that_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DENOISED_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_root() == Path(project.__file__).resolve().parent.parent


def test_without_any_checkout_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DENOISED_ROOT", raising=False)
    monkeypatch.setattr(project, "__file__", str(tmp_path / "site-packages" / "denoised" / "project.py"))
    monkeypatch.chdir(tmp_path)
    with speaking("en"), pytest.raises(DenoisedError) as caught:
        find_root()
    assert caught.value.message == f"not inside a Denoised project: {tmp_path.resolve()}"
    assert caught.value.help == "go to the folder that holds catalog.yaml, or name it in DENOISED_ROOT"
    assert caught.value.code is Exit.USAGE
