"""A container that is confined, watched and looked through: each bound is probed from inside, on a real engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from denoised.engine import container as module
from denoised.engine.confinement import Limits, docker_line
from denoised.engine.container import (
    LABEL,
    Ended,
    check_output,
    check_size,
    confinement,
    driver_name,
    image_of,
    is_gone,
    make_output,
    own_user,
    reap,
    run,
)
from denoised.engine.docker import engine
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from tests.engine.tiny import SHELL, import_images, remove_images

LIMITS = Limits(memory=64 * 2**20, pids=32, scratch=2**20, output=8 * 2**20, files=100)

needs_engine = pytest.mark.docker

# The SDK leaves the sockets of broken streams and refused connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    with speaking("en"):
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    with engine() as client:
        import_images(client)
        yield client
        remove_images(client)


Shell = Callable[..., Ended]


@pytest.fixture
def shell(client: docker.DockerClient, tmp_path: Path) -> Iterator[Shell]:
    """Runs a script in a container; `shell.output` is its folder, `shell.said` what it said."""

    class Running:
        def __init__(self) -> None:
            self.output = make_output(tmp_path / "out")
            self.said: list[str] = []

        def __call__(self, script: str, limits: Limits = LIMITS, **more: Any) -> Ended:
            return run(
                client, SHELL, [script], output=self.output, limits=limits, say_line=self.said.append, **more
            )

    yield Running()
    assert client.containers.list(all=True, filters={"label": LABEL}) == []  # whatever happened


# --- a run ------------------------------------------------------------------------------------------------


@needs_engine
def test_what_it_says_is_told_line_by_line_and_its_exit_code_kept(shell: Any) -> None:
    told: list[float] = []
    shell.said = Both(told)
    ended = shell(
        "for i in 1 2 3; do echo line $i >&2; sleep 0.4; done; echo result; echo kept > /out/file; exit 6"
    )
    assert (ended.exit_code, ended.out_of_memory) == (6, False)
    assert list(shell.said) == ["line 1", "line 2", "line 3"] == list(ended.last)
    assert told[2] - told[0] > 0.3  # as it went, not at the end
    assert (shell.output / "file").read_text() == "kept\n"


class Both(list[str]):
    """A list that notes when something was appended."""

    def __init__(self, times: list[float]) -> None:
        super().__init__()
        self.times = times

    def append(self, value: str) -> None:
        self.times.append(time.monotonic())
        super().append(value)


@needs_engine
def test_lines_come_once_although_the_stream_breaks(shell: Any, client: docker.DockerClient) -> None:
    client.api.timeout = 1  # a second of silence breaks it
    try:
        shell("echo a >&2; echo a >&2; sleep 2.5; echo a >&2; sleep 2.5; echo b >&2")
    finally:
        client.api.timeout = 10
    assert shell.said == ["a", "a", "a", "b"]


@needs_engine
def test_silence_is_told_and_harms_nothing(shell: Any) -> None:
    ended = shell("sleep 1.5; echo done >&2", replace(LIMITS, quiet=0.5))
    assert ended.exit_code == 0 and shell.said[-1] == "done"
    assert "has said nothing for 0 seconds" in shell.said[0] and "it is running" in shell.said[0]


@needs_engine
def test_escape_codes_are_shown_and_long_lines_cut(shell: Any) -> None:
    shell(r"printf '\033[2J\033]0;title\a\rgone\n' >&2; printf '%04000d\n' 1 >&2; printf 'no end' >&2")
    assert shell.said[0] == "<U+001B>[2J<U+001B>]0;title<U+0007><U+000D>gone"
    assert len(shell.said[1]) == 400 and shell.said[1].endswith("…")
    assert shell.said[2] == "no end"


@needs_engine
def test_a_container_that_prints_without_end_is_stopped(shell: Any) -> None:
    with pytest.raises(DenoisedError, match="it printed more than 1 MiB") as caught:
        shell("yes >&2", replace(LIMITS, words=2**20))
    assert caught.value.code == Exit.FAILED


# --- confinement ------------------------------------------------------------------------------------------


@needs_engine
def test_there_is_no_network(shell: Any) -> None:
    ended = shell(
        "ls /sys/class/net >&2; nc -w 2 192.0.2.1 80 </dev/null && echo reached >&2; nc -w 2 172.17.0.1 22 </dev/null"
    )
    assert ended.exit_code != 0 and shell.said[0] == "lo" and "reached" not in shell.said
    assert "unreachable" in " ".join(shell.said)


@needs_engine
def test_nothing_but_out_and_tmp_can_be_written(shell: Any) -> None:
    shell(
        "for f in /x /bin/x /var/run/x /in/x /tmp/x /out/x; do touch $f 2>/dev/null && echo $f >&2; done; true"
    )
    assert shell.said == ["/tmp/x", "/out/x"]


@needs_engine
def test_tmp_is_bounded(shell: Any) -> None:
    ended = shell("dd if=/dev/zero of=/tmp/x bs=1024 count=4096")
    assert ended.exit_code != 0 and "No space left" in " ".join(shell.said)


@needs_engine
def test_the_engine_cannot_be_reached_from_inside(shell: Any) -> None:
    ended = shell("ls /var/run/docker.sock /run/docker.sock")
    assert ended.exit_code != 0


@needs_engine
def test_it_is_nobody_with_no_capability_and_no_way_to_gain_one(
    shell: Any, client: docker.DockerClient
) -> None:
    shell("id -u >&2; sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\):\\s*/\\1 /p' /proc/self/status >&2")
    assert shell.said[0] == own_user().split(":")[0] != "0"
    assert shell.said[1:] == ["CapBnd 0000000000000000", "CapEff 0000000000000000", "NoNewPrivs 1"] or set(
        shell.said[1:]
    ) == {"CapBnd 0000000000000000", "CapEff 0000000000000000", "NoNewPrivs 1"}
    # A program that belongs to root and is set to run as root: so it does elsewhere, and not here.
    assert shell("who-am-i").exit_code == int(own_user().split(":")[0]) % 256 != 0
    loose = client.containers.create(SHELL, ["who-am-i"], user="10001:10001", network_mode="none")
    try:
        loose.start()
        assert loose.wait(timeout=10)["StatusCode"] == 0
    finally:
        loose.remove(force=True)


@needs_engine
def test_a_fork_bomb_reaches_its_limit(shell: Any) -> None:
    ended = shell("i=0; while [ $i -lt 200 ]; do sleep 5 & i=$((i+1)); done; echo all >&2")
    assert "all" not in shell.said and "fork" in " ".join(shell.said)
    assert ended.exit_code != 0


@needs_engine
def test_a_memory_bomb_is_ended_and_recognised(shell: Any) -> None:
    ended = shell("tail /dev/zero")
    assert ended.out_of_memory


@needs_engine
def test_inputs_can_be_read_and_not_written(shell: Any, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model").write_text("weights\n")
    os.chmod(folder, 0o777)
    shell("cat /in/model/model >&2; touch /in/model/x", inputs={"/in/model": folder})
    assert shell.said[0] == "weights" and "Read-only" in shell.said[1]
    assert [each.name for each in folder.iterdir()] == ["model"]


@needs_engine
def test_the_line_for_a_shell_confines_as_the_command_does(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    """Both create a container, and the engine is asked what it understood."""
    output = tmp_path / "outputs" / "container"
    output.mkdir(parents=True)
    environment = {**os.environ, "PATH": "/usr/bin:/bin:/usr/local/bin"}
    line = " ".join(docker_line(SHELL, ["run", "ddim"])).replace("docker run --rm", "docker create", 1)
    made = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    digest = str(client.images.get(SHELL).id)
    ours = client.containers.create(
        SHELL,
        ["run", "ddim", "--out", "/out"],
        environment={"DENOISED_IMAGE": digest},
        **confinement(Limits(), output, user=f"{os.getuid()}:{os.getgid()}"),
    )
    theirs = client.containers.get(made.stdout.strip())
    try:
        for each in (ours, theirs):
            each.reload()
        assert _confinement(theirs) == _confinement(ours)
        assert _confinement(ours)["env"] == [f"DENOISED_IMAGE={digest}", "PATH=/bin"]
    finally:
        for each in (ours, theirs):
            each.remove(force=True)


def _confinement(container: Any) -> dict[str, Any]:
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    names = (
        "NetworkMode", "ReadonlyRootfs", "CapAdd", "CapDrop", "SecurityOpt", "PidsLimit", "Memory", "MemorySwap",
        "NanoCpus", "Tmpfs", "Binds", "Privileged", "Init", "Devices", "DeviceRequests", "PidMode", "IpcMode", "UTSMode",
    )  # fmt: skip
    found = {name: host[name] or None for name in names}
    found["mounts"] = [{k: v for k, v in each.items() if v} for each in host["Mounts"]]
    found["user"], found["env"] = config["User"], sorted(config["Env"])
    found["command"] = [*(config["Entrypoint"] or []), *config["Cmd"]]
    return found


# --- GPUs -------------------------------------------------------------------------------------------------


@needs_engine
def test_a_gpu_that_the_engine_cannot_give(shell: Any) -> None:
    with pytest.raises(DenoisedError, match="cannot give a GPU") as caught:
        shell("true", gpu=True)
    assert caught.value.code == Exit.NO_GPU and "nvidia-container-toolkit" in (caught.value.help or "")


@needs_engine
@pytest.mark.skipif(os.geteuid() != 0, reason="starts an engine of its own")
def test_the_request_for_a_gpu_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that finds NVIDIA's hook on its PATH; the hook here does nothing, and there is no GPU to see."""
    hook = tmp_path / "bin" / "nvidia-container-runtime-hook"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    address = f"unix:///run/denoised-test-{os.getpid()}.sock"
    daemon = subprocess.Popen(
        [
            *("unshare", "--net"),  # without a bridge of its own it would remove the machine's
            *(
                "dockerd",
                "--host",
                address,
                "--data-root",
                str(tmp_path / "data"),
                "--exec-root",
                str(tmp_path / "exec"),
            ),
            *(
                "--pidfile",
                str(tmp_path / "pid"),
                "--bridge",
                "none",
                "--iptables=false",
                "--storage-driver",
                "vfs",
            ),
        ],
        env={**os.environ, "PATH": f"{hook.parent}:/usr/bin:/usr/sbin:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        monkeypatch.setenv("DOCKER_HOST", address)
        for _ in range(100):
            try:
                with engine(1):
                    break
            except DenoisedError:
                time.sleep(0.1)
        said: list[str] = []
        with engine() as client:
            import_images(client)
            output = make_output(tmp_path / "out")
            ended = run(
                client, SHELL, ["echo visible: $NVIDIA_VISIBLE_DEVICES >&2"],
                output=output, limits=LIMITS, say_line=said.append, gpu=True,
            )  # fmt: skip
        assert ended.exit_code == 0 and said == ["visible: all"]
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)


# --- what it leaves ---------------------------------------------------------------------------------------


@needs_engine
def test_output_without_end_stops_the_container(shell: Any) -> None:
    started = time.monotonic()
    with pytest.raises(DenoisedError, match="8 MiB and 100 files are allowed") as caught:
        shell("dd if=/dev/zero of=/out/big bs=65536 count=1024 2>/dev/null; sleep 60")
    assert caught.value.code == Exit.RESOURCES and time.monotonic() - started < 30


@needs_engine
def test_a_container_leaves_links_and_pipes(shell: Any) -> None:
    for script in (
        "ln -s /etc/passwd /out/link",
        "mkfifo /out/pipe",
        "echo x > /out/a && ln /out/a /out/b",
    ):
        shell(f"{script} 2>&1")
        with pytest.raises(DenoisedError, match=r"no plain file: (link|pipe|a|b)") as caught:
            check_output(shell.output, LIMITS)
        assert caught.value.code == Exit.INTEGRITY
        for each in shell.output.iterdir():
            each.unlink()


def test_only_plain_files_and_folders_are_taken(tmp_path: Path) -> None:
    (tmp_path / "ddim").mkdir()
    (tmp_path / "ddim" / "mini.json").write_text("{}")
    check_output(tmp_path, LIMITS)
    outside = tmp_path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (tmp_path / "ddim" / "a\x1b[2Jb").symlink_to(outside)
    with pytest.raises(DenoisedError) as caught:
        check_output(tmp_path, LIMITS)
    assert caught.value.message.endswith("no plain file: ddim/a<U+001B>[2Jb")


def test_many_files_are_refused_before_they_are_counted(tmp_path: Path) -> None:
    for index in range(101):
        (tmp_path / str(index)).touch()
    with pytest.raises(DenoisedError, match="100 files"):
        check_size(tmp_path, LIMITS)
    check_size(tmp_path, replace(LIMITS, files=101))


def test_a_file_with_a_hole_counts_what_it_takes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**30)
    check_size(tmp_path, LIMITS)


# --- ends -------------------------------------------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
from denoised.engine.container import Limits, make_output, run
from denoised.engine.docker import engine
with engine() as client:
    run(client, sys.argv[1], ["echo up >&2; sleep 1000"], output=make_output(Path(sys.argv[2])), limits=Limits(),
        say_line=lambda line: print(line, flush=True))
"""


@needs_engine
def test_the_container_of_a_killed_driver_is_removed_by_the_next(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, SHELL, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None and driver.stdout.readline() == "up\n"
    assert reap(client) == []  # it lives
    driver.kill()
    driver.wait()
    (left,) = client.containers.list(filters={"label": LABEL})
    assert reap(client) == [left.name]
    assert client.containers.list(all=True, filters={"label": LABEL}) == []
    driver.stdout.close()


@needs_engine
def test_ctrl_c_stops_the_container(client: docker.DockerClient, tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, SHELL, str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert driver.stdout is not None and driver.stdout.readline() == "up\n"
    driver.send_signal(signal.SIGINT)
    _, error = driver.communicate(timeout=30)
    assert "KeyboardInterrupt" in error
    assert client.containers.list(all=True, filters={"label": LABEL}) == []


@needs_engine
def test_somebody_else_ends_the_container(shell: Any, client: docker.DockerClient) -> None:
    def end() -> None:
        while not (found := client.containers.list(filters={"label": LABEL})):
            time.sleep(0.05)
        found[0].kill()

    thread = threading.Thread(target=end)
    thread.start()
    ended = shell("echo up >&2; sleep 1000")
    thread.join()
    assert ended.exit_code == 137 and not ended.out_of_memory


@needs_engine
def test_one_that_will_not_stop_is_killed(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 1)
    with pytest.raises(DenoisedError, match="printed more than"):
        shell(
            "trap '' TERM; while true; do echo xxxxxxxxxxxxxxxxxxxxxxxx >&2; done",
            replace(LIMITS, words=10_000),
        )


@needs_engine
def test_an_image_that_is_not_there_is_not_looked_for_elsewhere(client: docker.DockerClient) -> None:
    with pytest.raises(DenoisedError, match="there is no image denoised-test-none:cpu") as caught:
        image_of(client, "denoised-test-none:cpu", build="denoised image build")
    assert caught.value.code == Exit.ENGINE and caught.value.help == "build it first: denoised image build"


@needs_engine
def test_an_image_without_the_command_is_told(client: docker.DockerClient, tmp_path: Path) -> None:
    client.api.import_image_from_data(
        b"\0" * 10240, repository="denoised-test-empty", tag="cpu", changes=['ENTRYPOINT ["/none"]']
    )
    try:
        ended = run(
            client, "denoised-test-empty:cpu", ["x"],
            output=make_output(tmp_path / "out"), limits=LIMITS, say_line=print,
        )  # fmt: skip
        assert ended.exit_code == 127 and "/none" in ended.last[-1]
    finally:
        client.images.remove("denoised-test-empty:cpu", force=True)


def test_a_driver_is_gone_when_its_process_is() -> None:
    assert not is_gone(driver_name())
    host, boot, pid, start = driver_name().rsplit(":", 3)
    assert is_gone(f"{host}:{boot}:{pid}:{int(start) - 1}")  # the number was given to another process
    assert is_gone(f"{host}:another-boot:{pid}:{start}")
    assert not is_gone(f"another-machine:{boot}:{pid}:1")  # that cannot be known here
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert is_gone(f"{host}:{boot}:{ended.pid}:5")


def test_the_line_can_be_copied_into_a_shell() -> None:
    line = " \\\n  ".join(docker_line("denoised:cuda", ["run", "ddim", "scale=paper"], gpu=True))
    words = shlex.split(line.replace("$(id -u):$(id -g)", "1:1"))
    assert words[:3] == ["docker", "run", "--rm"] and words[-5:] == [
        "run",
        "ddim",
        "scale=paper",
        "--out",
        "/out",
    ]
    assert "--gpus" in words and re.search(r"--network none", line)
    assert json.dumps(line)
