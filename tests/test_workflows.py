"""What .github holds: workflows that nobody's pull request can turn against the repository, and forms that GitHub takes.

The scripts of the steps run here as a runner runs them, with a `gh` that answers what it is told and writes down what
it was asked: the real one needs GitHub.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from denoised.cli import main
from denoised.contribute.comment import COMMENT_LIMIT, MARKER, SIZE_LIMIT, comment

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
VALID = ROOT / "tests" / "catalog" / "fixtures" / "valid.yaml"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted((GITHUB / "workflows").iterdir())}
# Without types: `on` stays a word, and 10 is "10".
WORKFLOWS: dict[str, dict[str, Any]] = {
    name: yaml.load(text, Loader=yaml.BaseLoader) for name, text in TEXTS.items()
}
JOBS = [
    pytest.param(workflow, job, id=f"{name}-{key}")
    for name, workflow in WORKFLOWS.items()
    for key, job in workflow["jobs"].items()
]
SCRIPTS = [
    pytest.param(step["run"], id=f"{name}: {step['name']}")
    for name, workflow in WORKFLOWS.items()
    for job in workflow["jobs"].values()
    for step in job["steps"]
    if "run" in step
]

# The commits that were looked at. Dependabot's pull requests change them here as well, so a person looks again.
PINS = {
    "actions/checkout": "11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2",
    "actions/setup-python": "a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0",
    "actions/upload-artifact": "ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2",
    "actions/upload-pages-artifact": "56afc609e74202658d3ffba0e8f6dda462b719fa # v3.0.1",
    "actions/deploy-pages": "d6db90164ac5ed86f2b6aed7e0febac5b3c0c03e # v4.0.5",
}


def steps(name: str, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = WORKFLOWS[name]["jobs"][job]["steps"]
    return found


def script(name: str, job: str, start: str) -> str:
    """The script of the step whose name begins so."""
    (found,) = [step["run"] for step in steps(name, job) if step.get("name", "").startswith(start)]
    return str(found)


def checkouts() -> Iterator[tuple[str, dict[str, str]]]:
    for name, workflow in WORKFLOWS.items():
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    yield name, step["with"]


# --- what may run, and with which rights -----------------------------------------------------------------


@pytest.mark.parametrize("persona", ["regular", "pedantic", "auditor"])
def test_zizmor_finds_nothing(persona: str) -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    options = ["--offline", "--no-config", "--strict-collection", "--no-progress", "--color=never"]
    ran = subprocess.run(
        [zizmor, *options, f"--persona={persona}", GITHUB], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(name in ran.stderr for name in ["dependabot.yml", *WORKFLOWS])  # it looked at every one


def test_zizmor_was_told_to_look_away_once() -> None:
    told = [line.strip() for text in TEXTS.values() for line in text.splitlines() if "zizmor:" in line]
    assert told == [
        "workflow_run: # zizmor: ignore[dangerous-triggers] no code of the run is checked out; see above"
    ]


def test_the_workflows_start_when_they_should() -> None:
    assert {name: sorted(workflow["on"]) for name, workflow in WORKFLOWS.items()} == {
        "comment.yml": ["workflow_run"],
        "links.yml": ["schedule", "workflow_dispatch"],
        "site.yml": ["push", "workflow_dispatch"],
        "test.yml": ["pull_request", "push"],
        "validate.yml": ["pull_request"],
    }
    assert "pull_request_target" not in "".join(TEXTS.values())


def test_every_action_is_pinned_by_its_commit() -> None:
    used = {
        line for text in TEXTS.values() for line in re.findall(r"^\s+(?:- )?uses: (.*)$", text, re.MULTILINE)
    }
    assert used == {f"{action}@{pin}" for action, pin in PINS.items()}
    assert all(re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", pin) for pin in PINS.values())


def test_rights_are_given_to_single_jobs_and_few_may_write() -> None:
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    writing = {
        (name, job, right)
        for name, workflow in WORKFLOWS.items()
        for job, each in workflow["jobs"].items()
        for right, level in each["permissions"].items()
        if level != "read"
    }
    assert writing == {
        ("comment.yml", "comment", "pull-requests"),
        ("links.yml", "issue", "issues"),
        ("site.yml", "deploy", "pages"),
        ("site.yml", "deploy", "id-token"),
    }


def test_no_workflow_knows_a_secret() -> None:
    assert not re.search(r"\$\{\{[^}]*\bsecrets\b", "".join(TEXTS.values()))


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_every_job_ends_and_makes_way_for_a_newer_one(workflow: dict[str, Any], job: dict[str, Any]) -> None:
    assert 0 < int(job["timeout-minutes"]) <= 120
    assert workflow["concurrency"]["group"]
    assert workflow["concurrency"]["cancel-in-progress"] in ("true", "false")
    assert job["runs-on"] == "ubuntu-24.04"
    assert workflow["defaults"] == {"run": {"shell": "bash"}}  # with -eo pipefail


def test_no_checkout_keeps_the_token() -> None:
    assert all(options["persist-credentials"] == "false" for _, options in checkouts())


@pytest.mark.parametrize("run", SCRIPTS)
def test_no_script_is_put_together_from_what_others_wrote(run: str) -> None:
    assert "${{" not in run


@pytest.mark.parametrize("run", SCRIPTS)
def test_every_script_is_one_that_bash_can_read(run: str) -> None:
    assert subprocess.run(["bash", "-n"], input=run.encode(), check=False).returncode == 0


# --- a stranger's files are data ---------------------------------------------------------------------------


def test_validate_reads_the_pull_request_and_runs_the_branch_it_goes_to() -> None:
    base, head = [options for name, options in checkouts() if name == "validate.yml"]
    assert (base["path"], base["ref"]) == ("base", "${{ github.event.pull_request.base.sha }}")
    assert (head["path"], head["ref"]) == ("head", "${{ github.event.pull_request.head.sha }}")
    assert head["sparse-checkout-cone-mode"] == "false"
    assert head["sparse-checkout"].split() == [
        "/catalog.yaml",
        "/papers/",
        "/site/glossary.yaml",
        "/site/paths.yaml",
    ]


def test_after_the_checkout_the_pull_request_is_an_argument_of_the_check_and_nothing_else() -> None:
    listed = steps("validate.yml", "data")
    (place,) = [index for index, step in enumerate(listed) if step.get("with", {}).get("path") == "head"]
    before, after = listed[:place], listed[place + 1 :]
    assert [step["run"] for step in before if "run" in step] == [script("validate.yml", "data", "Install")]
    assert not [step for step in listed if "working-directory" in step]
    assert [step["uses"].split("@")[0] for step in after if "uses" in step] == ["actions/upload-artifact"]
    lines = [line.strip() for step in after for line in step.get("run", "").splitlines()]
    assert [line for line in lines if "head" in line] == [
        "odd=$(find head -path head/.git -prune -o ! -type f ! -type d -print | wc -l)",
        "denoised check head/catalog.yaml --format json > findings.json || code=$?",
        "denoised check head/catalog.yaml --format github | sed 's|^::error file=head/|::error file=|' || true",
    ]
    assert not [line for line in lines if re.search(r"\b(pip|make|cd|source|python)\b", line)]


def test_only_validate_and_the_approved_tests_check_out_a_pull_request() -> None:
    refs = [(name, options.get("ref")) for name, options in checkouts()]
    assert refs == [
        ("comment.yml", "${{ github.event.repository.default_branch }}"),
        ("links.yml", None),
        ("site.yml", None),
        ("test.yml", None),
        ("validate.yml", "${{ github.event.pull_request.base.sha }}"),
        ("validate.yml", "${{ github.event.pull_request.head.sha }}"),
    ]


def test_the_tests_of_a_pull_request_wait_for_a_person() -> None:
    jobs = WORKFLOWS["test.yml"]["jobs"]
    assert jobs["approval"]["environment"] == "review"
    assert jobs["test"]["needs"] == "approval"
    assert jobs["test"]["if"] == (
        "${{ !cancelled() && (github.event_name == 'push' || needs.approval.result == 'success') }}"
    )


def test_the_jobs_that_may_write_run_no_code_of_a_pull_request() -> None:
    assert [step for step in steps("links.yml", "issue") if "uses" in step] == []
    assert "denoised" not in script("links.yml", "issue", "Open")
    assert [step["uses"].split("@")[0] for step in steps("site.yml", "deploy")] == ["actions/deploy-pages"]


def test_the_comment_takes_no_more_bytes_than_are_read() -> None:
    taken = script("comment.yml", "comment", "Take")
    assert f"size_in_bytes <= {SIZE_LIMIT})" in taken
    assert f"head -c {SIZE_LIMIT + 1} " in taken


def test_the_validator_installs_what_it_imports() -> None:
    lines = (GITHUB / "validator.txt").read_text(encoding="utf-8").splitlines()
    named = {line for line in lines if line and not line.startswith("#")}
    program = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
from importlib.metadata import packages_distributions
from denoised.cli import main
import denoised.contribute.comment
main(["check", sys.argv[1], "--format", "json"])
main(["check", sys.argv[1], "--format", "github"])
owners = packages_distributions()
names = {name.partition(".")[0] for name in sys.modules} - before
print(*sorted({owner.lower() for name in names for owner in owners.get(name, ())}), file=sys.stderr)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, VALID], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = set(ran.stderr.replace("_", "-").split()) - {"denoised"}
    installed: set[str] = set()
    waiting = list(named)
    while waiting:
        name = waiting.pop().lower()
        if name not in installed:
            installed.add(name)
            waiting += _needed(name)
    assert named <= imported <= installed
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert installed <= pinned


def _needed(name: str) -> list[str]:
    try:
        wanted = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:  # for another system
        return []
    return [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]


# --- the steps, run as a runner runs them ------------------------------------------------------------------


class Runner:
    """A folder to run steps in, and a `gh` that prints the next line of `answers` and keeps its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "temp", "work"):
            (folder / name).mkdir()
        for name in ("output", "summary", "answers", "asked"):
            (folder / name).touch()
        gh = folder / "bin" / "gh"
        gh.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, sys\n"
            f"folder = pathlib.Path({str(folder)!r})\n"
            "with (folder / 'asked').open('a') as asked:\n"
            "    asked.write(' '.join(sys.argv[1:]).replace('\\n', ' ') + '\\n')\n"
            "answer, _, rest = (folder / 'answers').read_text().partition('\\0')\n"
            "(folder / 'answers').write_text(rest)\n"
            "sys.stdout.write(answer)\n"
        )
        gh.chmod(0o755)

    def run(self, script: str, *answers: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a step; `answers` are what `gh` prints, one call each."""
        (self.folder / "answers").write_text("\0".join(answers))
        for name in ("output", "summary", "asked"):
            (self.folder / name).write_text("")
        path = os.pathsep.join(
            [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder / "work",
            env={
                **os.environ,
                "PATH": path,
                "LANG": "C.UTF-8",
                "RUNNER_TEMP": str(self.folder / "temp"),
                "GITHUB_OUTPUT": str(self.folder / "output"),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
                "REPOSITORY": "denoised/denoised",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def asked(self) -> list[str]:
        return self.text("asked").splitlines()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


CHECK = script("validate.yml", "data", "Check")
PLAIN = script("validate.yml", "data", "Only plain files")
PERSON = script("validate.yml", "person", "Say")
FIND = script("comment.yml", "comment", "Find")
POST = script("comment.yml", "comment", "Post")
APPROVAL = script("test.yml", "approval", "Refuse")
ISSUE = script("links.yml", "issue", "Open")


def head_of(runner: Runner, catalog: str) -> Path:
    head = runner.folder / "work" / "head"
    (head / ".git").mkdir(parents=True)
    (head / "catalog.yaml").write_text(catalog, encoding="utf-8")
    return head


def test_a_clean_catalog_passes_and_its_comment_is_short(runner: Runner) -> None:
    head_of(runner, VALID.read_text(encoding="utf-8"))
    ran = runner.run(CHECK)
    assert (ran.returncode, ran.stdout, runner.text("output")) == (0, "", "code=0\n")
    findings = (runner.folder / "work" / "findings.json").read_bytes()
    assert "고칠 곳이 없다" in comment(findings, head="0" * 40)


def test_a_wrong_catalog_is_marked_in_the_diff_and_in_the_comment(runner: Runner) -> None:
    head_of(runner, VALID.read_text(encoding="utf-8").replace("kind: video", "kind: vidio"))
    ran = runner.run(CHECK, DENOISED_LANG="en")
    assert (ran.returncode, runner.text("output")) == (0, "code=1\n")
    assert ran.stdout == (
        "::error file=catalog.yaml,line=44,endLine=44,col=11,endColumn=15,title=E0206::"
        "`vidio` is no `kind` that we know%0Aunknown value%0Adid you mean `video`?\n"
    )
    findings = (runner.folder / "work" / "findings.json").read_bytes()
    assert "**E0206** · `catalog.yaml:44:11`" in comment(findings, head="0" * 40)


@pytest.mark.parametrize(("code", "ended"), [("0", 0), ("1", 1), ("", 2), ("x", 2)])
def test_the_job_fails_where_the_check_found_something(runner: Runner, code: str, ended: int) -> None:
    assert runner.run(script("validate.yml", "data", "Fail"), CODE=code).returncode == ended


def test_a_pull_request_without_a_catalog_is_no_success(runner: Runner) -> None:
    (head_of(runner, "") / "catalog.yaml").unlink()
    assert runner.run(CHECK).returncode != 0
    assert runner.text("output") == "code=2\n"


def test_a_catalog_cannot_give_the_runner_commands(runner: Runner) -> None:
    hostile = "x\\n::set-env name=A::b\\r\\n::add-mask::c"
    head_of(runner, VALID.read_text(encoding="utf-8").replace("kind: video", f'kind: "{hostile}"'))
    ran = runner.run(CHECK)
    assert all(line.startswith("::error file=catalog.yaml,") for line in ran.stdout.splitlines())
    assert not re.search(r"^\s*::", ran.stderr, re.MULTILINE)


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "dangling link", "pipe"])
def test_a_link_or_a_pipe_among_the_data_is_refused(runner: Runner, kind: str) -> None:
    head = head_of(runner, "")
    (head / "papers").mkdir()
    assert runner.run(PLAIN).returncode == 0
    odd = head / "papers" / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        targets = {"link to a file": "/etc/passwd", "link to a folder": "/etc", "dangling link": "nowhere"}
        odd.symlink_to(targets[kind])
    ran = runner.run(PLAIN)
    assert ran.returncode == 1
    assert ran.stdout == (
        "::error::데이터에 심볼릭 링크나 보통 파일이 아닌 것이 1개 있다 · the data holds 1 links or other special files\n"
    )


DATA = [
    "catalog.yaml",
    "papers/ddim/ko.md",
    "papers/a-b-2/results/mini.json",
    "papers/ddim/results/mini-x_1.png",
]
CODE = [
    *("runners/guidance/x.py", "denoised/cli/app.py", "docker/Dockerfile", ".github/workflows/validate.yml"),
    *(".ci/run", "Makefile", "pyproject.toml", "constraints.txt", "mkdocs.yml", "site/overrides/main.html"),
    *(
        "zoo/emoji-pixel/model.safetensors",
        "conftest.py",
        "tests/conftest.py",
        ".gitattributes",
        "data/x.npz",
    ),
    *(
        "papers/ddim/run.py",
        "papers/ddim/results/x/y.json",
        "papers/catalog.yaml",
        "xcatalog.yaml",
        "catalog_yaml",
    ),
]


def test_data_alone_needs_nobody(runner: Runner) -> None:
    ran = runner.run(PERSON, "\n".join([*DATA, "site/glossary.yaml", "site/paths.yaml"]) + "\n", NUMBER="7")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert runner.text("summary") == (
        "데이터만 바뀌었다. 실행되는 것은 없다.\n\nOnly data is changed; nothing of it runs.\n"
    )
    assert runner.asked()[0].startswith("api --paginate repos/denoised/denoised/pulls/7/files ")


@pytest.mark.parametrize("path", CODE)
def test_whatever_may_run_needs_a_person(runner: Runner, path: str) -> None:
    ran = runner.run(PERSON, "\n".join([*DATA, path]) + "\n", NUMBER="7")
    assert ran.returncode == 0
    assert ran.stdout.startswith("::notice title=review::데이터 말고도 바뀐 것이 있다.")
    assert "nothing of it runs before a person has read it" in runner.text("summary")


def test_a_list_that_github_cuts_off_needs_a_person(runner: Runner) -> None:
    assert runner.run(PERSON, "catalog.yaml\n" * 3000, NUMBER="7").stdout.startswith(
        "::notice title=review::"
    )


@pytest.mark.parametrize(
    ("answer", "output"), [("12\n", "number=12\n"), ("", ""), ("12\n13\n", ""), ("x\n", ""), ("null\n", "")]
)
def test_the_comment_goes_to_the_one_pull_request_with_this_head(
    runner: Runner, answer: str, output: str
) -> None:
    ran = runner.run(FIND, answer, HEAD_OWNER="someone", HEAD_BRANCH="fix&base=x", HEAD_SHA="a" * 40)
    assert (ran.returncode, runner.text("output")) == (0, output)
    (asked,) = runner.asked()
    assert asked.startswith("api --method GET repos/denoised/denoised/pulls -f state=open -f base=main ")
    assert asked.endswith(
        " -f head=someone:fix&base=x --jq .[] | select(.head.sha == env.HEAD_SHA) | .number"
    )


def test_the_first_comment_is_posted_and_later_ones_replace_it(runner: Runner) -> None:
    runner.run(POST, "", NUMBER="12")
    body = f"-F body=@{runner.folder / 'temp'}/comment.md --silent"
    assert runner.asked()[1:] == [f"api --method POST repos/denoised/denoised/issues/12/comments {body}"]
    assert MARKER in runner.asked()[0]
    runner.run(POST, "34\n56\n", NUMBER="12")
    assert runner.asked()[1:] == [f"api --method PATCH repos/denoised/denoised/issues/comments/34 {body}"]


@pytest.mark.parametrize("answer", ["0\n", "", "null\n", "{}\n"])
def test_an_environment_without_reviewers_stops_the_tests(runner: Runner, answer: str) -> None:
    ran = runner.run(APPROVAL, answer)
    assert ran.returncode == 1
    assert "set required reviewers: Settings, Environments, review" in ran.stdout
    assert runner.run(APPROVAL, "2\n").returncode == 0


@pytest.mark.parametrize(
    ("dead", "open", "asked"),
    [
        ("yes", "", "issue create --title 끊어진 링크 · Dead links --body-file body.md"),
        ("yes", "9\n", "issue edit 9 --body-file body.md"),
        ("", "9\n", "issue close 9 --comment 이제 끊어진 링크가 없다. · No link is dead any more."),
        ("", "", None),
    ],
)
def test_there_is_one_issue_about_dead_links_while_there_are_any(
    runner: Runner, dead: str, open: str, asked: str | None
) -> None:
    (runner.folder / "work" / "report.md").write_text("a" + "가" * 30_000, encoding="utf-8")
    title = WORKFLOWS["links.yml"]["jobs"]["issue"]["steps"][0]["env"]["TITLE"]
    ran = runner.run(ISSUE, "", open, DEAD=dead, TITLE=title, RUN="1", GH_REPO="denoised/denoised")
    assert ran.returncode == 0, ran.stderr
    assert runner.asked()[2:] == ([asked] if asked else [])
    body = (runner.folder / "work" / "body.md").read_text(encoding="utf-8")
    assert body == "a" + "가" * 19_999
    assert len(body) < COMMENT_LIMIT


# --- what is named exists ----------------------------------------------------------------------------------

PROSE = [
    GITHUB / "pull_request_template.md",
    *sorted((GITHUB / "ISSUE_TEMPLATE").iterdir()),
    ROOT / "denoised" / "contribute" / "comment.py",
]


def _commands() -> set[str]:
    """Every command line of ours in a workflow, a form, the template or the comment: `check --format`, `site build`."""
    lines = [
        line
        for param in SCRIPTS
        for line in re.findall(r"(?:^|\s|/)denoised (-*[a-z][^|>]*)", str(param.values[0]), re.MULTILINE)
    ]
    for path in PROSE:
        lines += re.findall(r"`denoised (-*[a-z][^`]*)`", path.read_text(encoding="utf-8"))
    found = set()
    for line in lines:
        words = line.split()
        group = 2 if words[0] in ("site", "image") else int(not words[0].startswith("-"))
        found.add(" ".join(words[:group] + sorted(word for word in words[group:] if word.startswith("-"))))
    return found


def test_the_commands_are_found() -> None:
    assert {"check --format", "site build --published --url", "links --format --state", "new", "doctor"} <= (
        _commands()
    )


@pytest.mark.parametrize("line", sorted(_commands()))
def test_every_command_that_is_named_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.split()
    command = [word for word in words if not word.startswith("-")]
    assert main(["--lang", "en", *command, "--help"]) == 0
    help = capsys.readouterr().out
    assert all(re.search(rf"(?<![\w-]){re.escape(word)}\b", help) for word in words if word.startswith("-"))


def test_every_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target for param in SCRIPTS for target in re.findall(r"^make (\S+)$", str(param.values[0]), re.M)
    }
    named |= set(
        re.findall(r"`make (\S+)`", (GITHUB / "pull_request_template.md").read_text(encoding="utf-8"))
    )
    assert named == {"lint", "test", ".venv/.installed"}
    assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in named)


def test_every_path_that_is_named_exists() -> None:
    owned = [line.split()[0] for line in (GITHUB / "CODEOWNERS").read_text().splitlines() if line[:1] == "/"]
    ignored = WORKFLOWS["test.yml"]["on"]["pull_request"]["paths-ignore"]
    sparse = next(
        options["sparse-checkout"].split() for _, options in checkouts() if "sparse-checkout" in options
    )
    assert sorted(path.strip("/*") for path in ignored) == sorted(path.strip("/") for path in sparse)
    install = script("validate.yml", "data", "Install") + script("comment.yml", "comment", "Write")
    files = re.findall(r"--(?:constraint|requirement) (?:base/)?(\S+)", install)
    assert len(files) == 5
    for path in [*owned, *sparse, *files]:
        assert (ROOT / path.strip("/")).exists(), path


def test_workflows_that_name_each_other_exist() -> None:
    names = {workflow["name"] for workflow in WORKFLOWS.values()}
    assert {f"{name}.yml" for name in names} == set(TEXTS)
    assert set(WORKFLOWS["comment.yml"]["on"]["workflow_run"]["workflows"]) <= names
    assert {word for text in TEXTS.values() for word in re.findall(r"\b[a-z]+\.yml\b", text)} <= set(TEXTS)


def test_what_one_step_uploads_another_downloads() -> None:
    everything = "".join(TEXTS.values())
    uploaded = {
        step["with"]["name"]
        for workflow in WORKFLOWS.values()
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact@")
    }
    assert uploaded == {"findings", "links-state", "links-report"}
    assert "artifacts?name=findings" in everything
    assert all(f"--name {name}" in everything for name in ("links-state", "links-report"))


# --- forms -------------------------------------------------------------------------------------------------

FORMS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((GITHUB / "ISSUE_TEMPLATE").iterdir())
}
# What GitHub's schema of issue forms wants of each kind of element.
WANTED = {
    "markdown": {"value"},
    "input": {"label"},
    "textarea": {"label"},
    "checkboxes": {"label", "options"},
}
ALLOWED = {
    "markdown": {"value"},
    "input": {"label", "description", "placeholder", "value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "checkboxes": {"label", "description", "options"},
}


def test_the_forms_are_there() -> None:
    assert list(FORMS) == ["bug.yml", "config.yml", "paper.yml", "reproduction.yml"]
    assert FORMS["config.yml"] == {"blank_issues_enabled": True}


@pytest.mark.parametrize("name", ["bug.yml", "paper.yml", "reproduction.yml"])
def test_github_takes_the_form(name: str) -> None:
    form = FORMS[name]
    assert set(form) == {"name", "description", "title", "body"}
    assert form["name"].isprintable() and 3 < len(form["description"]) < 200
    fields = [element for element in form["body"] if element["type"] != "markdown"]
    identifiers = [element["id"] for element in fields]
    labels = [element["attributes"]["label"] for element in fields]
    assert len(set(identifiers)) == len(identifiers) and len(set(labels)) == len(labels) > 0
    assert all(re.fullmatch(r"[a-z][a-z-]*", identifier) for identifier in identifiers)
    for element in form["body"]:
        kind, attributes = element["type"], element["attributes"]
        assert WANTED[kind] <= set(attributes) <= ALLOWED[kind]
        assert all(isinstance(value, str) for key, value in attributes.items() if key != "options")
        assert set(element) <= {"type", "id", "attributes", "validations"}
        assert set(element.get("validations", {})) <= {"required"}
        for option in attributes.get("options", []):
            assert set(option) == {"label", "required"} and option["required"] is True


@pytest.mark.parametrize("name", ["bug.yml", "paper.yml", "reproduction.yml"])
def test_a_form_speaks_both_languages(name: str) -> None:
    form = FORMS[name]
    texts = [form["name"], form["description"], form["title"]]
    for element in form["body"]:
        attributes = element["attributes"]
        texts += [attributes[key] for key in ("value", "label", "description") if key in attributes]
        texts += [option["label"] for option in attributes.get("options", [])]
    for text in texts:
        words = re.sub(r"`[^`]*`", "", text)
        assert bool(re.search("[가-힣]", words)) == bool(re.search("[A-Za-z]{3}|A ", words)), text


def test_the_forms_ask_for_what_a_maintainer_needs() -> None:
    required = {
        name: [
            element["id"]
            for element in form["body"]
            if element.get("validations", {}).get("required") or element["type"] == "checkboxes"
        ]
        for name, form in FORMS.items()
        if "body" in form
    }
    assert required == {
        "bug.yml": ["happened", "doctor"],
        "paper.yml": ["paper", "why", "searched"],
        "reproduction.yml": ["paper", "command", "machine", "record"],
    }


def test_the_template_of_pull_requests_is_a_short_list_in_both_languages() -> None:
    text = (GITHUB / "pull_request_template.md").read_text(encoding="utf-8")
    items = re.findall(r"^- \[ \] (.+)$", text, re.MULTILINE)
    assert 5 <= len(items) <= 8
    assert all(re.search("[가-힣].* · .*[A-Za-z]", item) for item in items)


def test_owners_are_none_or_written_as_github_takes_them() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            path, *owners = line.split()
            assert path.startswith("/")
            assert all(re.fullmatch(r"@[A-Za-z0-9-]+(/[A-Za-z0-9._-]+)?", owner) for owner in owners)


def test_dependabot_asks_weekly_for_actions_that_are_a_week_old() -> None:
    settings = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))
    (update,) = settings["updates"]
    assert settings["version"] == 2
    assert update["package-ecosystem"] == "github-actions"
    assert update["schedule"] == {"interval": "weekly"}
    assert update["cooldown"] == {"default-days": 7}
