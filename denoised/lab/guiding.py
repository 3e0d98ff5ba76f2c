"""For runners that guide a network by its own null class: whether it has one."""

from __future__ import annotations

from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.language import say


def null_class(lab: Lab, *, of_data: bool = False) -> int:
    """The null class of the run's network, which is its last one.

    DenoisedError for a network that knows no classes, or with `of_data` fewer than the data has; it is not read
    where its name says so.
    """
    model = lab.settings.model
    assert model is not None
    unread = model.name == "ddpm-cifar10" or (model.name == "cifar10-conditional" and model.folder is None)
    classes = None if unread else lab.checkpoint.classes
    whose = ("데이터의 ", "the data's ") if of_data else ("", "")
    if classes is None or (of_data and classes < lab.data.classes):
        raise DenoisedError(
            say(
                ko=f"가이던스에는 {whose[0]}클래스와 무조건 클래스를 아는 네트워크가 필요하다: "
                f"{model.name}로는 가이던스를 걸 수 없다",
                en=f"guidance needs a network that knows {whose[1]}classes and a null class: "
                f"{model.name} cannot be guided",
            ),
            help=say(
                ko="무조건 클래스를 마지막 클래스로 둔 클래스 조건부 UNet2DModel을 허브 배치의 폴더로 준다: "
                "model=폴더",
                en="give a class-conditional UNet2DModel, its last class being the null class, as a folder in the "
                "hub's layout: model=FOLDER",
            ),
        )
    return classes
