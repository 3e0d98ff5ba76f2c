"""For runners that ask for classes of the emoji world: what its judge reads in their pictures."""

from __future__ import annotations

from torch import Tensor

from denoised.lab.lab import Arm, Lab

JUDGE = "zoo/emoji-judge: attributes of emoji scenes"
CLASS_ACCURACY = "class-accuracy[emoji-judge]"


def record_class_accuracy(lab: Lab, arm: Arm, classes: Tensor) -> None:
    """Record in how many pictures of the arm the judge reads the class (n,) asked for.

    ValueError in another world, whose classes it does not know.
    """
    judge = lab.judge()
    assert arm.images is not None
    right = judge.agrees(judge(arm.images), {"object": classes.cpu()})["object"]
    arm.record(CLASS_ACCURACY, right, by=judge.agrees, extractor=JUDGE)
