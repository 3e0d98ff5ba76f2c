"""From `denoised run ID key=value …` to the settings of a run and the runner's own Config.

Hydra composes the groups in `denoised/conf` (scale, model, data) and parses the overrides; everything is
then checked against two dataclasses, `Settings` and the runner's Config. Unknown keys and wrong types are
refused, with the nearest valid name; so are Hydra's `+`, `~`, sweeps and `${…}`, which would let a value
slip past the check.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import denoised.conf
from denoised.errors import DenoisedError
from denoised.language import say

SCALES = ("mini", "smoke", "paper")


@dataclass
class ModelSettings:
    """Where the network comes from: a folder in the hub's layout, None while the user has to give it."""

    name: str = ""
    folder: str | None = None
    source: str | None = None  # what to download, for the message that asks for the folder


@dataclass
class DataSettings:
    """What the arms are measured against, and its folder where it is not embedded."""

    name: str = ""
    folder: str | None = None
    source: str | None = None


@dataclass
class ExtractorSettings:
    """Through which network sets of pictures are compared, and its file of weights, None while it has to be given."""

    name: str = ""
    file: str | None = None


@dataclass
class Settings:
    """What every run has, beside the runner's own Config. See denoised/conf/scale/ for the values."""

    scale: str = "mini"
    seeds: list[int] | None = None
    images: int = 0
    batch: int = 0
    reference_images: int = 0
    device: str = "cpu"
    threads: int = 1
    model: ModelSettings | None = None
    data: DataSettings | None = None
    clip: ModelSettings | None = None  # only for runners whose SCALES name one
    extractor: ExtractorSettings | None = None  # None: the one that is shipped

    @property
    def seed_list(self) -> list[int]:
        return list(self.seeds or [])


def compose_config(schema: type, overrides: Sequence[str]) -> Any:
    """An instance of the dataclass `schema` with plain key=value overrides; the same errors as `compose_run`."""
    values = _parse(overrides)
    known = [f.name for f in fields(schema)]
    for key in values:
        if key not in known:
            raise _unknown(say(ko="키", en="key"), key, known)
    return _fill(OmegaConf.structured(schema), {}, values)


def compose_run(
    runner: ModuleType, overrides: Sequence[str], *, rehearse: bool = False
) -> tuple[Settings, Any]:
    """The settings and the runner's Config for these overrides.

    Raises DenoisedError (USAGE) for a key that does not exist, a value of the wrong type or range, and for
    override syntax that is not plain key=value.
    """
    values = _parse(overrides)
    scale = values.pop("scale", "mini")
    if rehearse and scale != "paper":
        raise DenoisedError(
            say(ko="--rehearse는 scale=paper에 쓴다", en="--rehearse is for scale=paper"),
            help=say(ko="예: scale=paper --rehearse", en="for example: scale=paper --rehearse"),
        )
    if scale not in SCALES:
        raise _unknown(say(ko="규모", en="scale"), str(scale), SCALES)
    method_keys = [f.name for f in fields(runner.Config)]
    run_keys = [f.name for f in fields(Settings) if f.name != "scale"]
    for key in values:
        if key not in method_keys + run_keys:
            raise _unknown(say(ko="키", en="key"), key, [*method_keys, *run_keys, "scale"])

    defaults = dict(runner.SCALES.get(scale, {}))
    if scale == "paper" and defaults.get("data") != "prompts":  # without pictures there is nothing to compare
        defaults.setdefault("extractor", "inception-v3")
    if rehearse:
        defaults |= REHEARSAL | runner.REHEARSAL
    values = defaults | values
    groups = [f"scale={scale}"]
    folders, weights = {}, values.pop("extractor", None)
    for group in ("model", "data", "clip"):
        choice = values.pop(group, None)
        if choice is None:
            continue
        known = _choices(group)
        if choice not in known:
            if not Path(str(choice)).is_dir():
                raise _unknown(group, str(choice), [*known, say(ko="있는 폴더", en="an existing folder")])
            folders[group] = str(Path(str(choice)).resolve())
            choice = "cifar10" if group == "data" else "folder"  # the one format of data read from disk
        groups.append(f"+clip={choice}" if group == "clip" else f"{group}={choice}")
    file = None
    if weights is not None:
        known = _choices("extractor")
        if weights not in known:
            if not Path(str(weights)).is_file():
                raise _unknown(
                    "extractor", str(weights), [*known, say(ko="있는 파일", en="an existing file")]
                )
            file, weights = str(Path(str(weights)).resolve()), "inception-v3"  # the one that is not shipped
        groups.append(f"+extractor={weights}")
    config = _compose(groups)
    for group, folder in folders.items():
        config[group].folder = folder
    if file is not None:
        config.extractor.file = file
    settings = _fill(
        OmegaConf.structured(Settings), config, {k: v for k, v in values.items() if k in run_keys}
    )
    method = _fill(
        OmegaConf.structured(runner.Config), {}, {k: v for k, v in values.items() if k in method_keys}
    )
    _check(settings)
    return settings, method


# `--rehearse`: the same path with so few pictures and steps that a CPU walks it in seconds.
REHEARSAL: dict[str, Any] = {
    "images": 4,
    "batch": 2,
    "reference_images": 8,
    "seeds": [0, 1],
    "device": "cpu",
    "threads": 2,
    "extractor": "effnet-lite0",
}


def _parse(overrides: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in overrides:
        help = say(ko="예: steps='[10,20]'", en="for example: steps='[10,20]'")
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            message = say(ko=f"{text!r}는 키=값이 아니다", en=f"{text!r} is not key=value")
            raise DenoisedError(message, help=help) from error
        plain = not (override.is_add() or override.is_delete() or override.is_sweep_override())
        if not plain or override.package or "${" in text:
            raise DenoisedError(
                say(
                    ko=f"{text!r}: 값은 키=값으로만 준다 (+, ~, 스윕, ${{…}} 없이)",
                    en=f"{text!r}: only plain key=value is accepted (no +, ~, sweeps or ${{…}})",
                ),
                help=help,
            )
        if override.key_or_group in values:
            key = override.key_or_group
            raise DenoisedError(say(ko=f"{key}가 두 번 나온다", en=f"{key} is given twice"))
        values[override.key_or_group] = override.value()
    return values


def _compose(groups: list[str]) -> DictConfig:
    with initialize_config_module("denoised.conf", version_base="1.3"):
        return compose("run", overrides=groups)


def _choices(group: str) -> list[str]:
    """The names in one of Hydra's groups, without `folder`, which stands for a folder of the user's."""
    files = (Path(str(denoised.conf.__file__)).parent / group).glob("*.yaml")
    return sorted(file.stem for file in files if file.stem != "folder")


def _fill(schema: DictConfig, base: DictConfig | dict[str, Any], values: dict[str, Any]) -> Any:
    try:
        schema.merge_with(base)
    except OmegaConfBaseException as error:
        raise DenoisedError(str(error).splitlines()[0]) from error
    for key, value in values.items():
        try:
            OmegaConf.update(schema, key, value)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise DenoisedError(
                say(
                    ko=f"{key}={value}: {reason}",
                    en=f"{key}={value}: {reason}",
                ),
                help=say(ko=f"지금 값: {key}={schema[key]}", en=f"its default is {key}={schema[key]}"),
            ) from error
    try:
        return OmegaConf.to_object(schema)
    except ValueError as error:  # from the dataclass's own __post_init__
        raise DenoisedError(str(error)) from error


def _check(settings: Settings) -> None:
    if not settings.seed_list or len(set(settings.seed_list)) != len(settings.seed_list):
        raise DenoisedError(
            say(ko="seeds는 서로 다른 시드의 목록이어야 한다", en="seeds must be a list of different seeds"),
            help="seeds='[0,1,2]'",
        )
    smallest = {"images": 2, "batch": 1, "reference_images": 2, "threads": 1}
    for key, least in smallest.items():
        if getattr(settings, key) < least:
            raise DenoisedError(
                say(
                    ko=f"{key}는 {least} 이상이어야 하는데 {getattr(settings, key)}이다",
                    en=f"{key} must be at least {least}, not {getattr(settings, key)}",
                )
            )


def _unknown(what: str, name: str, known: Sequence[str]) -> DenoisedError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return DenoisedError(
        say(ko=f"{name!r}이라는 {what}는 없다", en=f"there is no {what} {name!r}"),
        help=(say(ko=f"혹시 {near[0]!r}? ", en=f"did you mean {near[0]!r}? ") if near else "")
        + say(ko=f"있는 것: {', '.join(known)}", en=f"there are: {', '.join(known)}"),
    )
