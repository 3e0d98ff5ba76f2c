"""The record of a reproduction: its schema, and reading and writing it whole or not at all.

A record is one canonical JSON file, `<folder>/<scale>.json`, beside the pictures it names. It carries the
SHA-256 of everything else in it, so a changed byte is seen; its numbers are checked against each other (a
mean against its seeds, a verdict against its interval), so a number edited by hand is seen even where the
hash was made anew. A record says nothing of its own trust: the site decides that.

The statistics that decide a verdict live here (`interval`, `verdict`), so that whoever writes a record and
whoever reads it use the same ones. Nothing here imports torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import stat
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from denoised.errors import DenoisedError, Exit
from denoised.files import cannot_write
from denoised.language import Phrase, reader_language, say

SCHEMA: Literal["denoised-record/1"] = "denoised-record/1"
MAX_BYTES = 4 * 2**20  # of a record; a real one is some tens of kilobytes
MAX_PICTURE_BYTES = 16 * 2**20
CONFIDENCE = 0.95

Scale = Literal["smoke", "mini", "paper", "rehearsal"]  # rehearsal: the paper's path with random weights
Verdict = Literal["holds", "fails", "inconclusive"]
Relation = Literal["<", ">"]

_PICTURE = re.compile(r"[a-z0-9][a-z0-9_-]{0,80}\.png")
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
_PNG = b"\x89PNG\r\n\x1a\n"


class RecordError(DenoisedError):
    """A record that cannot be trusted, with the reason in both languages."""

    def __init__(self, path: Path, reason: Phrase) -> None:
        super().__init__(f"{path}: {reason.to(reader_language())}", code=Exit.INTEGRITY)
        self.reason = reason


# --- statistics ------------------------------------------------------------------------------------------


def t_quantile(df: int) -> float:
    """The t with P(|T| <= t) = 0.95 for Student's t with `df` degrees of freedom.

    The distribution function is the finite sum for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and
    26.7.4) in theta = atan(t / sqrt(df)); it is inverted by bisection, to double precision.
    """

    def inside(theta: float) -> float:
        sin, cos = math.sin(theta), math.cos(theta)
        term = cos if df % 2 else 1.0
        total = 0.0
        for k in range(df % 2, df - 1, 2):
            total += term
            term *= cos * cos * (k + 1) / (k + 2)
        return 2 / math.pi * (theta + sin * total) if df % 2 else sin * total

    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if inside(middle) < CONFIDENCE else (low, middle)
    return math.sqrt(df) * math.tan(middle)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % Student t interval of the mean of `values`, one value a seed; None for fewer than two."""
    if len(values) < 2:
        return None
    mean, half = fmean(values), t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def verdict(relation: Relation, bounds: tuple[float, float] | None, margin: float = 0.0) -> Verdict:
    """What the interval of the paired differences `arm - than` says of the claim `arm <relation> than`.

    `holds`: the whole interval lies beyond the margin on the claimed side. `fails`: the whole interval lies
    beyond zero on the other side. `inconclusive`: anything else, or no interval at all (a single seed).
    """
    if bounds is None:
        return "inconclusive"
    low, high = bounds if relation == ">" else (-bounds[1], -bounds[0])
    return "holds" if low > margin else "fails" if high < 0 else "inconclusive"


# --- schema ----------------------------------------------------------------------------------------------

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Settings = dict[Name, str | bool | int | Finite]
Bounds = tuple[Finite, Finite]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Entry(_Model):
    """Which paper, and the hash of its catalog entry at the time (see `entry_sha256`)."""

    id: Name
    entry_sha256: Sha256


class Seeds(_Model):
    """The seeds asked for and those that finished."""

    asked: Annotated[tuple[int, ...], Field(min_length=1)]
    finished: Annotated[tuple[int, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _finished_were_asked(self) -> Self:
        for name, seeds in (("asked", self.asked), ("finished", self.finished)):
            if len(set(seeds)) != len(seeds):
                raise ValueError(f"a seed stands twice in `{name}`")
        if extra := sorted(set(self.finished) - set(self.asked)):
            raise ValueError(f"seeds {extra} finished that were not asked for")
        return self


class SeedValue(_Model):
    """One seed's number."""

    seed: int
    value: Finite


class Implementation(_Model):
    """What computed a metric."""

    name: Name
    version: Name


class Reference(_Model):
    """The set that a distance is measured to."""

    name: Name
    n: Positive
    sha256: Sha256


class Metric(_Model):
    """One measured quantity of one arm.

    `value` is the mean over the finished seeds, `n` the pictures (or samples) of one seed, `interval` the
    95 % Student t interval over the seeds (None for a single seed). `name` names extractor and resolution
    where they matter: `fid[effnet-lite0@64]`.
    """

    name: Name
    value: Finite
    n: Positive
    per_seed: Annotated[tuple[SeedValue, ...], Field(min_length=1)]
    interval: Bounds | None
    higher_is_better: bool
    implementation: Implementation
    extractor: Name | None
    reference: Reference | None

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        values = [each.value for each in self.per_seed]
        _agree(f"`{self.name}`", values, self.value, self.interval)
        if self.name.split("[")[0] == "fid" and min(values) < 0:
            raise ValueError(f"`{self.name}` is {min(values):g}: a Fréchet distance is never negative")
        return self


class Cost(_Model):
    """What one seed of an arm cost; each number is the mean over the finished seeds.

    `network_calls` counts forward passes of batches, `network_samples` counts samples x calls, so that
    `network_samples / n` is the number of network evaluations per sample (guidance counts twice).
    """

    network_calls: Amount
    network_samples: Amount
    seconds: Amount
    images_per_second: Amount | None
    peak_memory_mb: Amount | None
    parameters_trained: Count


class Arm(_Model):
    """One side of a comparison at one setting: `ddim` at `{"steps": 10}`."""

    name: Name
    settings: Settings
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    cost: Cost

    def metric(self, name: str) -> Metric | None:
        """This arm's metric of that full name."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def is_at(self, settings: Mapping[str, object]) -> bool:
        """Whether the arm has at least these settings."""
        return all(key in self.settings and self.settings[key] == value for key, value in settings.items())


class Claim(_Model):
    """A claim as it was decided: `metric` of `arm` is `relation` that of `than`, both `at` the same settings.

    `effect` is the mean over seeds of the paired differences `arm - than` (listed in `per_seed`), `interval`
    their 95 % Student t interval; `margin` >= 0 is how far beyond zero the interval must lie to hold.
    """

    metric: Name
    arm: Name
    relation: Relation
    than: Name
    at: Settings
    verdict: Verdict
    effect: Finite
    interval: Bounds | None
    margin: Amount = 0.0
    per_seed: Annotated[tuple[SeedValue, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _verdict_follows(self) -> Self:
        what = f"claim `{self.metric}: {self.arm} {self.relation} {self.than}`"
        _agree(what, [each.value for each in self.per_seed], self.effect, self.interval)
        if (follows := verdict(self.relation, self.interval, self.margin)) != self.verdict:
            raise ValueError(f"{what} says `{self.verdict}`, but its interval says `{follows}`")
        return self


class Environment(_Model):
    """The machine and the libraries."""

    python: Name
    torch: Name
    diffusers: Name
    numpy: Name
    platform: Name
    cpu: Name
    threads: Positive
    gpu: Name | None
    driver: Name | None
    container: Name | None  # digest of the image


class Code(_Model):
    """The code that ran: `runner_sha256` is the hash of the runner file's bytes."""

    version: Name
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    dirty: bool | None
    runner_sha256: Sha256


class Input(_Model):
    """A file that the run read: a checkpoint, a reference set."""

    path: Name
    sha256: Sha256
    bytes: Count


class Caption(_Model):
    """What a picture shows, in both languages."""

    ko: Name
    en: Name


class Picture(_Model):
    """A PNG beside the record; `path` is its file name."""

    path: Annotated[str, Field(pattern=f"^{_PICTURE.pattern}$")]
    sha256: Sha256
    width: Positive
    height: Positive
    caption: Caption
    arm: Name | None
    settings: Settings


class Time(_Model):
    """When the run started and finished (UTC, ISO 8601) and the seconds it took."""

    started: str
    finished: str
    seconds: Amount

    @field_validator("started", "finished")
    @classmethod
    def _is_utc(cls, value: str) -> str:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None or moment.utcoffset() != UTC.utcoffset(None):
            raise ValueError(f"{value} is not a time in UTC")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if datetime.fromisoformat(self.finished) < datetime.fromisoformat(self.started):
            raise ValueError("the run finished before it started")
        return self


class Record(_Model):
    """Everything a run leaves behind, except the pictures' bytes."""

    schema_: Annotated[Literal["denoised-record/1"], Field(alias="schema")]
    key: Sha256
    paper: Entry
    scale: Scale
    seeds: Seeds
    config: dict[str, JsonValue]
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    claims: tuple[Claim, ...]
    environment: Environment
    code: Code
    inputs: tuple[Input, ...]
    pictures: tuple[Picture, ...]
    time: Time
    sha256: Sha256

    @model_validator(mode="after")
    def _arms_are_whole(self) -> Self:
        seen: list[tuple[str, Settings]] = []
        for arm in self.arms:
            if (arm.name, arm.settings) in seen:
                raise ValueError(f"arm `{arm.name}` stands twice with the settings {arm.settings}")
            seen.append((arm.name, arm.settings))
            names = [metric.name for metric in arm.metrics]
            if len(set(names)) != len(names):
                raise ValueError(f"a metric stands twice in arm `{arm.name}`")
            for metric in arm.metrics:
                self._check_seeds(f"`{metric.name}` of arm `{arm.name}`", metric.per_seed)
        return self

    @model_validator(mode="after")
    def _claims_follow_from_arms(self) -> Self:
        for claim in self.claims:
            what = f"claim `{claim.metric}: {claim.arm} {claim.relation} {claim.than}`"
            arm, than = self.of_claim(claim)
            for name, metric in ((claim.arm, arm), (claim.than, than)):
                if metric is None:
                    raise ValueError(f"{what} needs one arm `{name}` with that metric at {claim.at}")
            assert arm is not None and than is not None
            self._check_seeds(what, claim.per_seed)
            baseline = {each.seed: each.value for each in than.per_seed}
            measured = {each.seed: each.value - baseline[each.seed] for each in arm.per_seed}
            for each in claim.per_seed:
                if not _close(each.value, measured[each.seed], arm.value, than.value):
                    raise ValueError(f"{what}: the difference of seed {each.seed} is not that of the arms")
        return self

    @model_validator(mode="after")
    def _pictures_are_distinct(self) -> Self:
        paths = [picture.path for picture in self.pictures]
        if len(set(paths)) != len(paths):
            raise ValueError("a picture stands twice")
        return self

    def of_claim(self, claim: Claim) -> tuple[Metric | None, Metric | None]:
        """The claim's metric in its arm and in the arm it is compared with; None where no single arm fits."""

        def find(name: str) -> Metric | None:
            arms = [arm for arm in self.arms if arm.name == name and arm.is_at(claim.at)]
            return arms[0].metric(claim.metric) if len(arms) == 1 else None

        return find(claim.arm), find(claim.than)

    def _check_seeds(self, what: str, per_seed: Sequence[SeedValue]) -> None:
        seeds = [each.seed for each in per_seed]
        if sorted(seeds) != sorted(self.seeds.finished):
            finished = list(self.seeds.finished)
            raise ValueError(f"{what} has the seeds {seeds}, but the seeds {finished} finished")


def _agree(what: str, values: Sequence[float], mean: float, bounds: Bounds | None) -> None:
    """Raise ValueError unless `mean` and `bounds` are the mean of `values` and its 95 % interval."""
    if not _close(mean, fmean(values), *values):
        raise ValueError(f"{what} is {mean:g}, but the mean over its seeds is {fmean(values):g}")
    if bounds is not None and bounds[0] > bounds[1]:
        raise ValueError(f"the interval of {what} is reversed: {bounds[0]:g} to {bounds[1]:g}")
    expected = interval(values)
    if (bounds is None) != (expected is None):
        raise ValueError(f"the interval of {what} needs two seeds or more, and then must be given")
    if bounds and expected and not all(_close(a, b, *values) for a, b in zip(bounds, expected, strict=True)):
        raise ValueError(f"the interval of {what} is not the Student t interval of its seeds")


def _close(a: float, b: float, *magnitudes: float) -> bool:
    """Equal up to rounding in numbers of these magnitudes (a difference may cancel to nearly zero)."""
    return abs(a - b) <= 1e-7 * max(map(abs, (a, b, *magnitudes)))


def obstacles(record: Record) -> list[Phrase]:
    """Why a record may not be published; empty when it may."""
    found = []
    if record.scale not in ("mini", "paper"):
        found.append(
            Phrase(
                f"규모가 {record.scale}이다: 공개하는 것은 mini와 paper뿐이다",
                f"its scale is {record.scale}: only mini and paper are published",
            )
        )
    if missing := sorted(set(record.seeds.asked) - set(record.seeds.finished)):
        found.append(Phrase(f"끝나지 않은 시드가 있다: {missing}", f"seeds {missing} did not finish"))
    return found


def publishable(record: Record) -> bool:
    """Whether the record may go into papers/<id>/results: never at smoke scale, and only with every seed."""
    return not obstacles(record)


# --- canonical JSON --------------------------------------------------------------------------------------


def canonical(value: object) -> bytes:
    """The one spelling of a JSON value: UTF-8, NFC, sorted keys, one item a line (for diffs), finite numbers.

    Raises ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    text = json.dumps(_nfc(value), ensure_ascii=False, allow_nan=False, sort_keys=True, indent=1)
    return (text + "\n").encode()


def _nfc(value: object) -> object:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a JSON object are strings")
        return {unicodedata.normalize("NFC", key): _nfc(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_nfc(each) for each in value]
    return value


def entry_sha256(paper: BaseModel) -> str:
    """The hash of a catalog entry, by which a record says which version of it was reproduced."""
    return hashlib.sha256(canonical(paper.model_dump(mode="json"))).hexdigest()


# --- reading ---------------------------------------------------------------------------------------------


def read_record(path: Path, *, paper: str | None = None, pictures: bool = False) -> Record:
    """The record at `path`, after everything that can be checked was checked.

    `paper`: the id it must be about. `pictures`: also read every picture and compare its hash. Raises
    RecordError (INTEGRITY) that names what is wrong.
    """
    record = _parse(_read(path, MAX_BYTES, path), path)
    if record.scale != path.stem:
        _bad(
            path,
            ko=f"{path.stem}이라는 이름이지만 {record.scale} 규모의 기록이다",
            en=f"it is named {path.stem} but is a record at scale {record.scale}",
        )
    if paper is not None and record.paper.id != paper:
        other = record.paper.id
        _bad(path, ko=f"다른 논문({other})의 기록이다", en=f"it is the record of another paper, {other}")
    for picture in record.pictures if pictures else ():
        data = _read(path.with_name(picture.path), MAX_PICTURE_BYTES, path)
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            _bad(
                path,
                ko=f"그림 {picture.path}의 sha256이 기록과 다르다",
                en=f"picture {picture.path} does not have the sha256 of the record",
            )
        if _png_size(data) != (picture.width, picture.height):
            _bad(
                path,
                ko=f"그림 {picture.path}의 크기가 기록과 다르다",
                en=f"picture {picture.path} does not have the size of the record",
            )
    return record


def _bad(path: Path, *, ko: str, en: str) -> NoReturn:
    raise RecordError(path, Phrase(ko, en))


def _read(path: Path, limit: int, record: Path) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; never follows a link or waits for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        _bad(record, ko=f"{path.name}을 읽을 수 없다: {reason}", en=f"{path.name} cannot be read: {reason}")
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            _bad(record, ko=f"{path.name}은 보통 파일이 아니다", en=f"{path.name} is not a regular file")
        if status.st_size > limit:
            _bad(
                record,
                ko=f"{path.name}은 {status.st_size:,}바이트로, 한도 {limit:,}을 넘는다",
                en=f"{path.name} has {status.st_size:,} bytes, more than the limit of {limit:,}",
            )
        return file.read(limit)


def _parse(data: bytes, path: Path) -> Record:
    try:
        document = json.loads(data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        spelling = canonical(document)
    except UnicodeError as error:
        _bad(path, ko=f"UTF-8이 아니다: {error}", en=f"it is not UTF-8: {error}")
    except json.JSONDecodeError as error:
        _bad(path, ko=f"JSON이 아니다: {error}", en=f"it is not JSON: {error}")
    except RecursionError:
        _bad(path, ko="너무 깊이 중첩되어 있다", en="it is nested too deeply")
    except ValueError as error:
        _bad(path, ko=f"있을 수 없는 값이 있다: {error}", en=f"it holds an impossible value: {error}")
    if not isinstance(document, dict) or not isinstance(document.get("sha256"), str):
        _bad(path, ko="`sha256`이 없다", en="it has no `sha256`")
    if document["sha256"] != _own_sha256(document):
        _bad(
            path,
            ko="내용이 기록 자신의 sha256과 맞지 않는다: 쓰인 뒤에 바뀌었다",
            en="its content does not match its own sha256: it was changed after it was written",
        )
    if spelling != data:
        _bad(path, ko="정규 JSON 표기가 아니다", en="it is not spelled as canonical JSON")
    try:
        return Record.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        detail = f"{place}: {first['msg']}" if place else first["msg"]
        _bad(path, ko=f"스키마에 맞지 않는다: {detail}", en=f"it does not match the schema: {detail}")


def _own_sha256(document: Mapping[str, object]) -> str:
    rest = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(canonical(rest)).hexdigest()


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = sorted(key for key, _ in pairs)
    for one, next_one in pairwise(keys):
        if one == next_one:
            raise ValueError(f"the key `{one}` stands twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, None for other data."""
    if len(data) < 33 or not data.startswith(_PNG) or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


# --- writing ---------------------------------------------------------------------------------------------


def write_record(
    folder: Path, scale: Scale, record: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> Path:
    """Write `<folder>/<scale>.json` and its pictures, whole or not at all; return the record's path.

    `record` holds every top-level field of `Record` except `schema`, `scale` and `sha256`. Its `pictures`
    list one item for each PNG in `pictures`: `path` (the key in `pictures`, such as `ddim-10.png`),
    `caption`, `arm` and `settings`; hash and size are filled in here, and the path becomes a name that
    carries scale and content hash, so that a new picture never overwrites one that the older record points
    at. The record goes last: it is the commit mark. Afterwards pictures of this scale that it does not name
    are removed.

    Writers of one folder take turns by a lock on the folder, which a killed writer gives back; what it left
    half-written is swept by the next.

    Raises RecordError (INTEGRITY) for a record that `read_record` would refuse, before anything is written,
    and DenoisedError (RESOURCES) where folder or disk refuse, with the older record untouched.
    """
    path = folder / f"{scale}.json"
    listed, files = _name_pictures(path, scale, record.get("pictures", []), pictures)
    document = {**record, "schema": SCHEMA, "scale": scale, "pictures": listed}
    try:
        document["sha256"] = _own_sha256(document)
        data = canonical(document)
    except (ValueError, TypeError) as error:
        _bad(path, ko=f"있을 수 없는 값이 있다: {error}", en=f"it holds an impossible value: {error}")
    if (size := len(data)) > MAX_BYTES:
        _bad(path, ko=f"기록이 너무 크다: {size:,}바이트", en=f"the record is too large: {size:,} bytes")
    _parse(data, path)

    with _locked(path, len(data)) as directory:
        new: list[str] = []
        try:
            for name, picture in files.items():
                if not os.access(name, os.F_OK, dir_fd=directory):
                    new.append(name)
                _put(directory, folder / name, picture)
            _put(directory, path, data)
        except BaseException:  # Ctrl-C too: leave the folder as it was, then let it go on its way
            for name in new:
                _unlink(directory, name)
            raise
        ours = re.compile(rf"{scale}-.*-[0-9a-f]{{16}}\.png")
        for name in os.listdir(directory):
            if ours.fullmatch(name) and name not in files:
                _unlink(directory, name)
    return path


def _name_pictures(
    path: Path, scale: Scale, listed: Sequence[Mapping[str, Any]], pictures: Mapping[str, bytes]
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The record's list of pictures with hash, size and final name, and the files to write."""
    if sorted(item["path"] for item in listed) != sorted(pictures):
        _bad(
            path,
            ko="기록의 그림 목록과 주어진 그림이 다르다",
            en="the pictures that the record lists are not the pictures given",
        )
    result, files = [], {}
    for item in listed:
        data = pictures[item["path"]]
        if (size := _png_size(data)) is None:
            _bad(path, ko=f"{item['path']}은 PNG가 아니다", en=f"{item['path']} is not a PNG")
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{scale}-{item['path'].removesuffix('.png')}-{sha256[:16]}.png"
        files[name] = data
        result.append({**item, "path": name, "sha256": sha256, "width": size[0], "height": size[1]})
    return result, files


@contextmanager
def _locked(path: Path, size: int) -> Iterator[int]:
    """A descriptor of the record's folder, made if need be, locked against other writers and swept."""
    folder = path.parent
    if folder.is_symlink():
        raise DenoisedError(
            say(
                ko=f"{path}에 쓸 수 없다 ({size:,}바이트): {folder}은 심볼릭 링크다",
                en=f"cannot write {path} ({size:,} bytes): {folder} is a symbolic link",
            ),
            help=say(ko="다른 폴더를 고른다: --out", en="choose another folder with --out"),
            code=Exit.RESOURCES,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_write(path, size, error) from error
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            for name in os.listdir(directory):
                if _TEMPORARY.fullmatch(name):  # under the lock, so its writer is dead
                    _unlink(directory, name)
        except OSError as error:
            raise cannot_write(path, size, error) from error
        yield directory
    finally:
        os.close(directory)


def _put(directory: int, path: Path, data: bytes) -> None:
    """Write one file of the locked folder: temporary name, fsync, read back, rename, fsync the folder."""
    temporary = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=directory), "w+b") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                if file.read() != data:
                    raise OSError("what was read back is not what was written")
            os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except BaseException:
            _unlink(directory, temporary)
            raise
    except OSError as error:
        raise cannot_write(path, len(data), error) from error


def _unlink(directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
