"""What a record holds: strict models whose numbers are checked against each other.

A mean must be that of its seeds, a verdict that of its interval, a claim's differences those of its arms, so a
number edited by hand is seen even where the record's hash was made anew. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from denoised.lab.verdicts import Relation, Verdict, interval, verdict

SCHEMA: Literal["denoised-record/2"] = "denoised-record/2"
PICTURE_NAME = r"[a-z0-9][a-z0-9_-]{0,80}\.png"

Scale = Literal["smoke", "mini", "paper", "rehearsal"]  # rehearsal: the paper's path with random weights

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
    """Which paper, and the hash of its catalog entry's claim at the time (see `entry_sha256`)."""

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
    """The set that a distance is measured to.

    `sha256`: of its pictures. `moments_sha256`: of the mean and covariance of their features, where the set is
    so large that these stand for it.
    """

    name: Name
    n: Positive
    sha256: Sha256
    moments_sha256: Sha256 | None = None


class Metric(_Model):
    """One measured quantity of one arm.

    `value` is the mean over the finished seeds, `n` the pictures (or samples) of one seed, `interval` the
    95 % interval: Student's t over the seeds, or of a single seed a bootstrap over its samples, where there
    is one; `interval_over` says which. `bounds` are what the value can never pass, None on a side without.
    `name` names extractor and resolution where they matter: `fid[effnet-lite0@64]`.
    """

    name: Name
    value: Finite
    n: Positive
    per_seed: Annotated[tuple[SeedValue, ...], Field(min_length=1)]
    interval: Bounds | None
    interval_over: Literal["seeds", "samples"] | None
    higher_is_better: bool
    bounds: tuple[Finite | None, Finite | None]
    implementation: Implementation
    extractor: Name | None
    reference: Reference | None

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        values = [each.value for each in self.per_seed]
        over_samples = self.interval_over == "samples"
        if over_samples and (len(values) > 1 or self.interval is None):
            raise ValueError(f"`{self.name}` has an interval over samples, which is for a single seed")
        _agree(f"`{self.name}`", values, self.value, None if over_samples else self.interval)
        if not over_samples and (self.interval_over == "seeds") != (self.interval is not None):
            raise ValueError(f"`{self.name}` does not say what its interval is taken over")
        low, high = self.bounds
        for value in values:
            if (low is not None and value < low - 1e-6) or (high is not None and value > high + 1e-6):
                raise ValueError(f"`{self.name}` is {value:g}, outside of what it can be: {self.bounds}")
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
    their 95 % Student t interval; `margin` >= 0 is how far beyond zero the interval must lie for "<" and ">" to
    hold, and how far on the other side it may lie for "<=" and ">=".
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

    path: Annotated[str, Field(pattern=f"^{PICTURE_NAME}$")]
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

    schema_: Annotated[Literal["denoised-record/2"], Field(alias="schema")]
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
