"""`denoised run` from the command line to the record: the path at smoke scale, and everything a person can get wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from denoised.cli import main
from denoised.errors import Exit
from denoised.lab.record import read_record
from denoised.zoo.rehearsal import write_cifar10

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    monkeypatch.chdir(ROOT)


def test_smoke_run_leaves_a_whole_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "ddim", "scale=smoke", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "ddim" / "smoke.json", paper="ddim", pictures=True)
    assert record.seeds.finished == (0, 1, 2)
    assert [(arm.name, arm.settings["steps"]) for arm in record.arms] == [
        ("ddim", 2),
        ("ddpm", 2),
        ("ddim", 10),
        ("ddpm", 10),
    ]
    for arm in record.arms:
        assert arm.cost.network_calls == arm.settings["steps"]
        assert arm.cost.network_samples == arm.settings["steps"] * 6
    assert [claim.at for claim in record.claims] == [{"steps": 10}]
    assert {file.path for file in record.inputs} >= {
        "zoo/emoji-pixel/unet/diffusion_pytorch_model.safetensors"
    }
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("arm"))
    assert lines[first].split() == ["arm", "settings", "fid", "kid", "precision", "recall", "NFE", "s/seed"]
    assert "n = 6 a seed. Seen through effnet-lite0." in " ".join(shown.split())


def test_the_same_seed_gives_the_same_numbers_whatever_the_batch(tmp_path: Path) -> None:
    for name, batch in (("a", "6"), ("b", "6"), ("c", "4")):
        arguments = ["scale=smoke", "steps=[2]", "seeds=[0]", f"batch={batch}"]
        assert main(["run", "ddim", *arguments, "--out", str(tmp_path / name)]) == Exit.OK
    a, b, c = (read_record(tmp_path / name / "ddim" / "smoke.json") for name in "abc")
    assert [m.value for arm in a.arms for m in arm.metrics] == [
        m.value for arm in b.arms for m in arm.metrics
    ]
    for one, other in zip(a.arms, c.arms, strict=True):
        assert one.metrics[0].value == pytest.approx(other.metrics[0].value, rel=1e-3)


@pytest.mark.parametrize("paper", ["ddim", "ddpm"])
def test_the_paper_scale_is_rehearsed_on_a_cpu(
    paper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", paper, "scale=paper", "--rehearse", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / paper / "rehearsal.json", paper=paper)
    names = [file.path for file in record.inputs]
    assert "ddpm-cifar10/diffusion_pytorch_model.safetensors" in names and "cifar10/data_batch_5.bin" in names
    assert "A rehearsal" in capsys.readouterr().err


def test_ddpm_trains_both_networks(tmp_path: Path) -> None:
    assert main(["run", "ddpm", "scale=smoke", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "ddpm" / "smoke.json")
    assert [arm.name for arm in record.arms] == ["l_simple", "l_vlb"]
    assert len({arm.cost.parameters_trained for arm in record.arms}) == 1
    assert record.arms[0].cost.parameters_trained > 100_000


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["dim"], Exit.USAGE, "ddim"),
        (["ldm"], Exit.USAGE, "ldm has no runner yet"),
        (["ddim", "step=[10]"], Exit.USAGE, "there is no key 'step'\nhelp: did you mean 'steps'?"),
        (["ddim", "steps=many"], Exit.USAGE, "steps=many"),
        (["ddim", "images=1.5"], Exit.USAGE, "images=1.5"),
        (["ddim", "images=1"], Exit.USAGE, "images must be at least 2, not 1"),
        (["ddim", "seeds=[1,1]"], Exit.USAGE, "seeds must be a list of different seeds"),
        (["ddim", "steps=[0]"], Exit.USAGE, "steps must be a list of numbers of at least 1, not [0]"),
        (["ddim", "steps=[1001]", "scale=smoke"], Exit.USAGE, "steps must be from 1 to 1000"),
        (["ddim", "spacing=odd", "scale=smoke"], Exit.USAGE, "spacing 'odd' is not known"),
        (["ddim", "+method.extra=1"], Exit.USAGE, "only plain key=value is accepted"),
        (["ddim", "~steps"], Exit.USAGE, "only plain key=value is accepted"),
        (["ddim", "steps=[1],[2]"], Exit.USAGE, "only plain key=value is accepted"),
        (["ddim", "device=${oc.env:HOME}"], Exit.USAGE, "only plain key=value is accepted"),
        (["ddim", "nonsense"], Exit.USAGE, "is not key=value"),
        (["ddim", "scale=large"], Exit.USAGE, "there is no scale 'large'"),
        (
            ["ddim", "model=emoji-pixl"],
            Exit.USAGE,
            "there is no model 'emoji-pixl'\nhelp: did you mean 'emoji-pixel'?",
        ),
        (["ddim", "scale=smoke", "--rehearse"], Exit.USAGE, "--rehearse is for scale=paper"),
        (["ddim", "scale=smoke", "--publish"], Exit.USAGE, "a smoke run is never published"),
        (["ddim", "--gpu", "scale=smoke"], Exit.NO_GPU, "this machine shows no CUDA GPU"),
        (
            ["ddim", "scale=paper", "device=cpu"],
            Exit.USAGE,
            "the weights of ddpm-cifar10 are not in this repository",
        ),
        (
            ["ddim", "scale=smoke", "--out", "/proc/nowhere"],
            Exit.RESOURCES,
            "cannot write /proc/nowhere/ddim",
        ),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], code: Exit, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torch

    if code == Exit.NO_GPU and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = [] if "--out" in arguments or "--publish" in arguments else ["--out", str(tmp_path)]
    assert main(["run", *arguments, *out]) == code
    said = capsys.readouterr()
    assert says in said.err and "Traceback" not in said.err
    assert list(tmp_path.rglob("*.json")) == []


def test_a_damaged_model_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "zoo" / "emoji-pixel", tmp_path / "model")
    path = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(
        path.read_bytes()[:-1] + b"\0" if path.read_bytes()[-1] else path.read_bytes()[:-1] + b"\1"
    )
    arguments = ["run", "ddim", "scale=smoke", f"model={tmp_path / 'model'}", "--out", str(tmp_path / "out")]
    assert main(arguments) == Exit.INTEGRITY
    assert "diffusion_pytorch_model.safetensors is damaged" in capsys.readouterr().err
    assert list((tmp_path / "out").rglob("*.json")) == []


def test_a_folder_given_as_model_is_not_named_in_the_record(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "zoo" / "emoji-pixel", tmp_path / "secret" / "model")
    model = f"model={tmp_path / 'secret' / 'model'}"
    arguments = [
        "run",
        "ddim",
        "scale=smoke",
        "steps=[2]",
        "seeds=[0]",
        model,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == Exit.OK
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "out" / "ddim" / "smoke.json").read_text()))


def test_a_folder_of_data_is_what_the_arms_are_compared_with(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar")
    data = [f"data={tmp_path / 'cifar'}", "reference_images=10"]
    arguments = [
        "run",
        "ddim",
        "scale=smoke",
        "steps=[2]",
        "seeds=[0]",
        *data,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == Exit.OK
    record = read_record(tmp_path / "out" / "ddim" / "smoke.json")
    assert "cifar/data_batch_1.bin" in {file.path for file in record.inputs}
    reference = record.arms[0].metrics[0].reference
    assert reference is not None and reference.name == "CIFAR-10 training set"


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "denoised.cli", "run", "ddim", "images=64", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "seed 1/3" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
