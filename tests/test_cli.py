"""The command line: what each command prints and exits with, and that a person's mistakes end in a sentence."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from denoised.cli import app, main
from denoised.command_line import _BETWEEN
from denoised.terminal import width

VALID = Path(__file__).parent / "catalog" / "fixtures" / "valid.yaml"
DDIM_SENTENCE = "Keeps the trained network and skips steps along a path that adds no noise."
DDPM_SENTENCE = "Learns to predict the noise that was mixed in, and takes it away step by step."
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the small catalog, as the current folder; nobody chose a language."""
    for variable in ("DENOISED_ROOT", "DENOISED_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "catalog.yaml").write_bytes(VALID.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_process(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "denoised.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        check=False,
    )


# --- list ------------------------------------------------------------------------------------------------


def test_list_is_one_aligned_line_a_paper_where_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"ddim    2020  no runner yet     DDIM    {DDIM_SENTENCE}",
        f"ddpm    2020  no runner yet     DDPM    {DDPM_SENTENCE}",
        "review  2022  no claim to test  Review  Goes through diffusion in an hour.",
    ]


def test_list_in_korean_is_aligned_by_columns(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "list", "--lang", "ko")
    lines = out.splitlines()
    assert (
        len(
            {
                width(line[: line.index(name)])
                for line, name in zip(lines, ("DDIM", "DDPM", "Review"), strict=True)
            }
        )
        == 1
    )
    assert lines[2] == "review  2022  검증할 주장 없음  Review  디퓨전을 한 시간에 훑는다."


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--category", "foundations"], ["ddpm", "review"]),
        (["--tag", "sampler"], ["ddim"]),
        (["--kind", "video"], ["review"]),
        (["--query", "noise"], ["ddim", "ddpm"]),
        (["-q", "잡음을"], ["ddim", "ddpm"]),
        (["-q", "트워"], ["ddim"]),  # inside a word: 네트워크
        (["-q", "\u1110\u1173\u110b\u116f"], ["ddim"]),  # the same, typed on macOS
        (["-q", "Ho 2006.11239"], ["ddpm"]),
        (["-q", "DIFFUSION hour"], ["review"]),
        (["--kind", "method", "--category", "fast-sampling", "-q", "ermon"], ["ddim"]),
    ],
)
def test_list_filters(capsys: pytest.CaptureFixture[str], arguments: list[str], ids: list[str]) -> None:
    code, out, _ = run(capsys, "list", *arguments)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ids


def test_list_says_when_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "list", "-q", "zebra") == (0, "", "no paper matches\n")


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (
            ["--category", "foundation"],
            "error: --category: there is no `foundation`\nhelp: did you mean `foundations`?\n",
        ),
        (
            ["--tag", "zzz"],
            "error: --tag: there is no `zzz`\nhelp: one of deterministic, sampler, training\n",
        ),
        (["--kind", "vidio"], "error: --kind: there is no `vidio`\nhelp: did you mean `video`?\n"),
    ],
)
def test_list_refuses_what_no_paper_can_have(
    capsys: pytest.CaptureFixture[str], arguments: list[str], err: str
) -> None:
    assert run(capsys, "list", *arguments) == (2, "", err)


def test_list_shows_a_runner_and_a_record_that_cannot_be_trusted(
    capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    runner = project / "runners" / "fast_sampling" / "ddim.py"
    runner.parent.mkdir(parents=True)
    runner.touch()
    record = project / "papers" / "ddpm" / "results" / "mini.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"claims": [{"verdict": "holds"}]}')
    _, out, _ = run(capsys, "list")
    assert [re.split("  +", line)[2] for line in out.splitlines()] == [
        "not run yet",
        "unverified",
        "no claim to test",
    ]


def test_list_wraps_to_a_terminal_without_losing_a_syllable(project: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "denoised.cli", "list", "--lang", "ko"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "44"},
        stdout=follower,
    )
    os.close(follower)
    output = b""
    try:
        while chunk := os.read(leader, 65536):
            output += chunk
    except OSError:  # Linux: the other side has closed the terminal
        pass
    os.close(leader)
    assert process.wait() == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output.decode())
    assert all(width(line) <= 44 for line in plain.splitlines())
    sentence = "학습한 네트워크는 그대로 두고, 잡음을 다시 더하지 않는 경로로 건너뛰며 표본을 뽑는다."
    assert sentence in " ".join(plain.split())
    assert "\x1b[1mddim" in output.decode()


# --- show ------------------------------------------------------------------------------------------------


def test_show_tells_everything(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    (project / "papers" / "ddim").mkdir(parents=True)
    (project / "papers" / "ddim" / "ko.md").touch()
    code, out, _ = run(capsys, "show", "ddim", "--lang", "ko")
    assert code == 0
    assert out.startswith("DDIM (ddim)\nDenoising Diffusion Implicit Models\nJiaming Song, Chenlin Meng")
    for expected in (
        "2020-10-06 · ICLR 2021 · 빠른 샘플링 · method",
        "sampler, deterministic",
        "열 단계에서 DDPM보다 FID가 낮다.",
        "아직 러너 없음",
        "fid 13.36 · CIFAR-10 · NFE 10 · Table 1\n",
        "fid 4.16 · CIFAR-10 · NFE 100 · Table 1 (출처와 대조하지 않음)",
        "arXiv       https://arxiv.org/abs/2010.02502",
        "code        https://github.com/ermongroup/ddim",
        "바탕이 된 논문\n  ddpm",
        "papers/ddim/ko.md",
        "@inproceedings{song2020ddim,",
    ):
        assert expected in out
    assert "\x1b" not in out


def test_show_says_what_builds_on_it_and_leaves_out_what_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(capsys, "show", "ddpm")
    assert "Built on by\n  ddim" in out
    assert "Reported by the paper" not in out
    assert "Note" not in out


def test_show_names_the_nearest_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "show", "ddin") == (
        2,
        "",
        "error: no paper has the id `ddin`\nhelp: did you mean `ddim`?\n",
    )


def test_an_id_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "show", "\x1b[31mred")
    assert "\x1b" not in err
    assert "no paper has the id `<U+001B>[31mred`" in err


# --- check -----------------------------------------------------------------------------------------------


def test_check_of_a_right_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check") == (0, "catalog.yaml: no errors (3 papers, 2 categories)\n", "")
    assert run(capsys, "check", "--format", "json") == (0, "[]\n", "")
    assert run(capsys, "check", "--format", "github") == (0, "", "")


def test_check_of_a_wrong_catalog(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    wrong = project / "wrong.yaml"
    wrong.write_bytes(VALID.read_bytes().replace(b"kind: video", b"kind: vidio"))
    code, out, err = run(capsys, "check", "wrong.yaml")
    assert (code, err) == (1, "\nwrong.yaml: 1 error\n")
    assert out.startswith("error[E0206]: `vidio` is no `kind` that we know\n --> wrong.yaml:44:11\n")
    code, out, _ = run(capsys, "check", "wrong.yaml", "--format=json")
    assert (code, json.loads(out)[0]["code"]) == (1, "E0206")
    code, out, _ = run(capsys, "check", "wrong.yaml", "--format=github")
    assert out.startswith("::error file=wrong.yaml,line=44,endLine=44,col=11,endColumn=15,title=E0206::")
    code, out, err = run(capsys, "check", "wrong.yaml", "--lang=ko")
    assert (code, err) == (1, "\nwrong.yaml: 고칠 곳 1개\n")
    assert out.startswith("오류[E0206]")


def test_check_of_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", "nowhere.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("error: cannot read nowhere.yaml: No such file or directory\nhelp: ")


def test_the_formats_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    err = "error: --format: there is no `jsn`\nhelp: did you mean `json`?\n"
    assert run(capsys, "check", "--format", "jsn") == (2, "", err)


def test_a_broken_catalog_stops_the_other_commands_with_its_first_findings(
    capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    (project / "catalog.yaml").write_bytes(VALID.read_bytes().replace(b"kind: ", b"kind: x"))
    code, out, err = run(capsys, "list")
    assert (code, out) == (1, "")
    assert err.count("error[E0206]") == 3
    assert err.endswith("error: catalog.yaml has 3 errors\nhelp: denoised check catalog.yaml\n")


# --- the command itself ----------------------------------------------------------------------------------


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, "denoised 0.1.0\n")


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert (code, out) == run(capsys, "--help")[:2]
    assert code == 0
    assert out.startswith("Usage: denoised [OPTIONS] COMMAND [ARGS]...\n")


@pytest.mark.parametrize("arguments", [["--lang", "ko", "list", "-h"], ["list", "--help", "--lang=ko"]])
def test_help_is_in_the_readers_language(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert out.startswith("사용법: denoised list [OPTIONS]\n")
    assert "이 범주만." in out
    assert "Only this category" not in out


def test_every_help_text_is_there_in_both_languages() -> None:
    def described(command: Any) -> list[Any]:
        children = getattr(command, "commands", {}).values()
        return [command, *command.params, *(each for child in children for each in described(child))]

    for each in described(typer.main.get_command(app)):
        ko, between, en = (each.help or "").partition(_BETWEEN)
        assert between, f"{each.name}: write its help with both(ko=..., en=...)"
        assert re.search("[가-힣]", ko), each.name
        assert not re.search("[가-힣]", en), each.name


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (["lst"], "error: there is no command `lst`\nhelp: did you mean `list`?\n"),
        (["zzz"], "error: there is no command `zzz`\nhelp: denoised --help\n"),
        (
            ["list", "--catgory", "x"],
            "error: there is no option `--catgory`\nhelp: did you mean `--category`?\n",
        ),
        (["list", "--zzz"], "error: there is no option `--zzz`\nhelp: denoised list --help\n"),
        (["show"], "error: ID is missing\nhelp: denoised show --help\n"),
        (["show", "a", "b"], "error: Got unexpected extra argument(s) (b)\nhelp: denoised show --help\n"),
        (
            ["list", "--lang", "fr"],
            "error: --lang: no such language `fr`\nhelp: ko (한국어) or en (English)\n",
        ),
        (["list", "--lang"], "error: --lang: no such language ``\nhelp: ko (한국어) or en (English)\n"),
    ],
)
def test_usage_errors_say_what_to_type(
    capsys: pytest.CaptureFixture[str], arguments: list[str], err: str
) -> None:
    assert run(capsys, *arguments) == (2, "", err)


def test_errors_are_in_the_readers_language(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    assert run(capsys, "lst") == (2, "", "오류: 없는 명령이다: `lst`\n도움: 혹시 `list`인가?\n")
    assert run(capsys, "show") == (2, "", "오류: ID 값이 빠졌다\n도움: denoised show --help\n")


def test_another_catalog_brings_its_own_folder(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    other = project / "other"
    (other / "runners" / "fast_sampling").mkdir(parents=True)
    (other / "runners" / "fast_sampling" / "ddim.py").touch()
    (other / "mine.yaml").write_bytes(VALID.read_bytes())
    _, out, _ = run(capsys, "list", "--catalog", "other/mine.yaml", "--tag", "sampler")
    assert "not run yet" in out


def test_an_interruption_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("denoised.catalog.load", interrupted)
    assert run(capsys, "list") == (130, "", "interrupted\n")


def test_a_bug_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("denoised.catalog.load", wrong)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(project: Path, unbuffered: str) -> None:
    papers = VALID.read_text(encoding="utf-8")
    lines = papers.replace("Goes through diffusion in an hour.", "word " * 40_000 + "end.")
    (project / "catalog.yaml").write_text(lines, encoding="utf-8")
    read, write = os.pipe()
    os.close(read)  # gone before the first byte
    process = subprocess.run(
        [sys.executable, "-m", "denoised.cli", "list"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": unbuffered},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (0, b"")


def test_a_terminal_without_hangul_shows_escapes(project: Path) -> None:
    process = as_process("list", "--lang", "ko", cwd=project, PYTHONIOENCODING="ascii")
    assert (process.returncode, process.stderr) == (0, b"")
    assert b"\\ub514\\ud4e8\\uc804" in process.stdout


@pytest.mark.parametrize("arguments", ["--help", "list", "check", "show ddim", "list --zzz"])
def test_light_commands_import_nothing_heavy(project: Path, arguments: str) -> None:
    code = (
        "import sys; from denoised.cli import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'hydra', 'mkdocs', 'jinja2', 'rich'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert process.returncode == 0, process.stderr
