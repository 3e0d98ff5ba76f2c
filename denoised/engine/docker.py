"""The container engine of this machine, through Docker's API: reaching it, and saying why it cannot be reached.

The API is spoken by dockerd and by podman's service alike. Which one it is says DOCKER_HOST; without it, it is the
socket that dockerd listens on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import requests
from docker.errors import DockerException

from denoised.errors import DenoisedError, Exit
from denoised.language import say
from denoised.terminal import cut

SOCKET = "unix:///var/run/docker.sock"
API = "1.41"  # spoken by dockerd since 20.10 and by podman 4
PATIENCE = 10  # seconds for an answer of the engine's; a build or a run is watched in other ways


@contextmanager
def engine(patience: float = PATIENCE) -> Iterator[docker.DockerClient]:
    """A client of an engine that has answered. DenoisedError (ENGINE) within `patience` where none does."""
    address = os.environ.get("DOCKER_HOST") or SOCKET
    client = None
    try:
        try:
            client = docker.DockerClient(base_url=address, version=API, timeout=patience)
            if not client.ping():
                raise DockerException("it does not say OK")
        except (DockerException, requests.RequestException, ValueError, OverflowError) as error:
            raise unreachable(address, error, patience) from error
        yield client
    finally:
        if client is not None:
            client.close()


def unreachable(address: str, error: BaseException, patience: float) -> DenoisedError:
    """What is told of an engine that did not answer within so many seconds, or not as one: what to type."""
    causes = list(_causes(error))
    if any(isinstance(cause, PermissionError) for cause in causes):
        message = say(
            ko=f"컨테이너 엔진({address})을 쓸 권한이 없다",
            en=f"you may not use the container engine at {address}",
        )
        help = say(
            ko="sudo usermod -aG docker $USER 를 실행하고 다시 로그인한다 (docker 그룹은 root와 같은 권한이다)",
            en="sudo usermod -aG docker $USER, then log in again (members of that group are as good as root)",
        )
    elif any(isinstance(cause, requests.Timeout | TimeoutError) for cause in causes):
        message = say(
            ko=f"컨테이너 엔진({address})이 {patience:g}초 동안 대답하지 않는다",
            en=f"the container engine at {address} has not answered for {patience:g} seconds",
        )
        help = say(
            ko="sudo systemctl restart docker 로 다시 시작한다",
            en="restart it: sudo systemctl restart docker",
        )
    elif any(isinstance(cause, FileNotFoundError) for cause in causes):
        message = say(ko=f"{address}에 컨테이너 엔진이 없다", en=f"there is no container engine at {address}")
        help = say(
            ko="설치: sudo apt-get install docker.io. 다른 곳에 있으면 DOCKER_HOST로 알린다",
            en="install one: sudo apt-get install docker.io; or say where it is with DOCKER_HOST",
        )
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        message = say(
            ko=f"컨테이너 엔진({address})이 돌고 있지 않다",
            en=f"the container engine at {address} is not running",
        )
        help = say(ko="시작: sudo systemctl start docker", en="start it: sudo systemctl start docker")
    else:
        said = cut(" ".join(str(error).split()), 160)  # it may be a whole page
        message = say(
            ko=f"{address}에서 대답한 것은 컨테이너 엔진이 아니다: {said}",
            en=f"what answered at {address} is no container engine: {said}",
        )
        help = say(ko="DOCKER_HOST를 확인한다", en="check DOCKER_HOST")
    return DenoisedError(message, help=help, code=Exit.ENGINE)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all it wraps: requests and urllib3 keep what happened in `args` and in the chain of causes."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inside = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting += [one for one in inside if isinstance(one, BaseException)]
