"""Which networks can be guided by a null class of their own, and which are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from denoised.errors import DenoisedError
from denoised.lab.guiding import null_class
from denoised.lab.settings import ModelSettings
from tests.runners.pixel_lab import pixel_lab


def test_the_null_class_is_the_networks_last() -> None:
    lab = pixel_lab(classes=48)
    unet = lab.checkpoint.unet
    assert null_class(lab) == null_class(lab, of_data=True) == unet.config.num_class_embeds - 1


def test_fewer_classes_than_the_datas_are_refused_only_where_those_count() -> None:
    lab = pixel_lab(classes=10)
    assert null_class(lab) == 10
    with pytest.raises(
        DenoisedError, match="the data's classes and a null class: emoji-pixel cannot be guided"
    ):
        null_class(lab, of_data=True)


def test_a_network_without_classes_is_refused() -> None:
    with pytest.raises(DenoisedError, match="knows classes and a null class: emoji-pixel cannot be guided"):
        null_class(pixel_lab(classes=None))


@pytest.mark.parametrize(
    "model", [ModelSettings("ddpm-cifar10", "nowhere"), ModelSettings("cifar10-conditional")]
)
def test_a_network_known_not_to_do_is_refused_before_it_is_read(model: ModelSettings) -> None:
    lab = pixel_lab()
    lab.settings = replace(lab.settings, model=model)
    del lab.inputs.checkpoint  # reading it would now fail otherwise
    with pytest.raises(DenoisedError, match=f"{model.name} cannot be guided") as told:
        null_class(lab)
    assert told.value.help is not None and "model=" in told.value.help
