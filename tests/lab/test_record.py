"""A record is whole or absent, says what is wrong with it, and cannot be edited by hand unseen."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from denoised.errors import DenoisedError, Exit
from denoised.lab.record import (
    MAX_BYTES,
    RecordError,
    canonical,
    entry_sha256,
    obstacles,
    publishable,
    read_record,
    write_record,
)
from denoised.lab.schema import Record
from denoised.lab.verdicts import interval, t_quantile, verdict

Document = dict[str, Any]
HEX = "ab" * 32


def png(width: int, height: int, shade: int) -> bytes:
    """A grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([shade]) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def metric(name: str, values: list[float]) -> Document:
    return {
        "name": name,
        "value": fmean(values),
        "n": 256,
        "per_seed": [{"seed": seed, "value": value} for seed, value in enumerate(values)],
        "interval": interval(values),
        "interval_over": "seeds" if len(values) > 1 else None,
        "higher_is_better": False,
        "bounds": (None, None),
        "implementation": {"name": "denoised", "version": "1"},
        "extractor": "effnet-lite0",
        "reference": {"name": "emoji-pixel", "n": 2048, "sha256": HEX},
    }


def arm(name: str, fid: list[float], kid: list[float]) -> Document:
    return {
        "name": name,
        "settings": {"steps": 10},
        "metrics": [metric("fid[effnet-lite0@64]", fid), metric("kid[effnet-lite0@64]", kid)],
        "cost": {
            "network_calls": 40,
            "network_samples": 2560,
            "seconds": 1.5,
            "images_per_second": 170.0,
            "peak_memory_mb": None,
            "parameters_trained": 0,
        },
    }


def sample() -> tuple[Document, dict[str, bytes]]:
    """What a run hands to `write_record`: DDIM below DDPM on three seeds, with one picture."""
    ddim, ddpm = [12.0, 12.5, 11.8], [25.0, 25.9, 24.2]
    differences = [a - b for a, b in zip(ddim, ddpm, strict=True)]
    claim = {
        "metric": "fid[effnet-lite0@64]",
        "arm": "ddim",
        "relation": "<",
        "than": "ddpm",
        "at": {"steps": 10},
        "verdict": "holds",
        "effect": fmean(differences),
        "interval": interval(differences),
        "margin": 0.0,
        "per_seed": [{"seed": seed, "value": value} for seed, value in enumerate(differences)],
    }
    record = {
        "key": HEX,
        "paper": {"id": "ddim", "entry_sha256": HEX},
        "seeds": {"asked": [0, 1, 2], "finished": [0, 1, 2]},
        "config": {"steps": [10], "eta": 0.0},
        "arms": [arm("ddim", ddim, [0.01, -0.002, 0.004]), arm("ddpm", ddpm, [0.03, 0.04, 0.05])],
        "claims": [claim],
        "environment": {
            "python": "3.11.2",
            "torch": "2.13.0+cpu",
            "diffusers": "0.42.1",
            "numpy": "2.4.6",
            "platform": "Linux",
            "cpu": "Some CPU",
            "threads": 2,
            "gpu": None,
            "driver": None,
            "container": None,
        },
        "code": {"version": "0.1.0", "commit": None, "dirty": None, "runner_sha256": HEX},
        "inputs": [{"path": "zoo/emoji-pixel/model.safetensors", "sha256": HEX, "bytes": 5}],
        "pictures": [
            {"path": "ddim.png", "caption": {"ko": "표본", "en": "samples"}, "arm": "ddim", "settings": {}}
        ],
        "time": {"started": "2026-01-02T03:04:05Z", "finished": "2026-01-02T03:05:05Z", "seconds": 60.0},
    }
    return record, {"ddim.png": png(8, 4, 7)}


@pytest.fixture(autouse=True)
def _messages_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_record(tmp_path / "ddim", "mini", *sample())


def forge(path: Path, change: Callable[[Document], object]) -> Path:
    """Change a record and make its own hash anew, as one who wants to be believed would."""
    document = json.loads(path.read_bytes())
    change(document)
    del document["sha256"]
    document["sha256"] = hashlib.sha256(canonical(document)).hexdigest()
    path.write_bytes(canonical(document))
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(RecordError) as caught:
        read_record(path, **options)
    assert caught.value.code is Exit.INTEGRITY
    assert caught.value.message == f"{path}: {caught.value.reason.en}"
    assert caught.value.reason.ko
    return caught.value.reason.en


# --- statistics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("df", "t"), [(1, 12.7062047362), (2, 4.3026527297), (9, 2.2621571628)])
def test_quantiles_are_those_of_the_printed_table(df: int, t: float) -> None:
    assert math.isclose(t_quantile(df), t, rel_tol=1e-10)


def test_quantiles_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df in (1, 2, 3, 4, 5, 10, 29, 30, 99, 1000):
        assert math.isclose(t_quantile(df), stats.t.ppf(0.975, df), rel_tol=1e-9)


def test_an_interval_needs_two_seeds() -> None:
    assert interval([1.0]) is None
    low, high = interval([1.0, 2.0, 3.0]) or (0, 0)
    assert math.isclose(low, 2 - 4.3026527297 / math.sqrt(3)) and math.isclose(high, 4 - low)


@pytest.mark.parametrize(
    ("relation", "bounds", "margin", "says"),
    [
        ("<", (-3.0, -1.0), 0.0, "holds"),
        ("<", (-3.0, -1.0), 1.5, "inconclusive"),
        ("<", (-3.0, 0.1), 0.0, "inconclusive"),
        ("<", (0.1, 3.0), 0.0, "fails"),
        ("<", (0.1, 3.0), 5.0, "fails"),
        (">", (0.1, 3.0), 0.0, "holds"),
        (">", (0.1, 3.0), 0.1, "inconclusive"),
        (">", (-3.0, -0.1), 0.0, "fails"),
        (">", (0.0, 3.0), 0.0, "inconclusive"),
        (">", None, 0.0, "inconclusive"),
        (">=", (-0.04, 0.2), 0.05, "holds"),
        (">=", (-0.05, 0.2), 0.05, "holds"),
        (">=", (0.0, 0.0), 0.0, "holds"),
        (">=", (-0.06, 0.2), 0.05, "inconclusive"),
        (">=", (-0.3, -0.06), 0.05, "fails"),
        ("<=", (-3.0, 0.04), 0.05, "holds"),
        ("<=", (-3.0, 0.06), 0.05, "inconclusive"),
        ("<=", (0.06, 0.3), 0.05, "fails"),
        ("<=", None, 0.05, "inconclusive"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(
    relation: Any, bounds: tuple[float, float] | None, margin: float, says: str
) -> None:
    assert verdict(relation, bounds, margin) == says


# --- reading and writing ---------------------------------------------------------------------------------


def test_round_trip(written: Path) -> None:
    record = read_record(written, paper="ddim", pictures=True)
    assert record.schema_ == "denoised-record/2"
    assert record.scale == "mini"
    assert record.seeds.finished == (0, 1, 2)
    assert record.claims[0].verdict == "holds"
    picture = record.pictures[0]
    assert (picture.width, picture.height) == (8, 4)
    assert picture.path == f"mini-ddim-{picture.sha256[:16]}.png"
    assert sorted(each.name for each in written.parent.iterdir()) == [picture.path, "mini.json"]
    arm_metric, than_metric = record.of_claim(record.claims[0])
    assert arm_metric and than_metric and arm_metric.value < than_metric.value


def test_the_same_run_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    assert write_record(tmp_path / "again", "mini", *sample()).read_bytes() == written.read_bytes()


def test_hangul_is_stored_composed(tmp_path: Path) -> None:
    record, pictures = sample()
    record["pictures"][0]["caption"]["ko"] = "표본"
    path = write_record(tmp_path, "mini", record, pictures)
    assert read_record(path).pictures[0].caption.ko == "표본"


def test_a_new_record_takes_its_old_pictures_away_and_leaves_other_files(written: Path) -> None:
    folder = written.parent
    (folder / "mini-notes.txt").write_text("mine")
    write_record(folder, "paper", *sample())
    record, _ = sample()
    write_record(folder, "mini", record, {"ddim.png": png(8, 4, 99)})
    names = sorted(each.name for each in folder.iterdir())
    assert [name.split("-")[0] for name in names] == ["mini", "mini", "mini.json", "paper", "paper.json"]
    assert "mini-notes.txt" in names
    for name in ("mini", "paper"):
        read_record(folder / f"{name}.json", pictures=True)


def test_the_entry_hash_changes_with_the_entry() -> None:
    from pydantic import BaseModel

    class Entry(BaseModel):
        id: str
        title: str = "Denoising"
        claim: dict[str, str] = {"ko": "더 낮다.", "en": "It is lower."}
        tags: tuple[str, ...] = ()

    assert entry_sha256(Entry(id="ddim")) != entry_sha256(Entry(id="ddpm"))
    assert entry_sha256(Entry(id="가")) == entry_sha256(Entry(id="가"))
    other = Entry(id="ddim", claim={"ko": "더 높다.", "en": "It is higher."})
    assert entry_sha256(other) != entry_sha256(Entry(id="ddim"))
    # A tag is no part of what a run measures: to correct one must not make a record look old.
    assert entry_sha256(Entry(id="ddim", tags=("sampler",))) == entry_sha256(Entry(id="ddim"))


def test_reading_a_record_does_not_import_torch() -> None:
    code = "import sys, denoised.lab.record; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what is refused when read ---------------------------------------------------------------------------


def test_every_flipped_byte_is_seen(written: Path) -> None:
    good = written.read_bytes()
    chance = random.Random(0)
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1 << chance.randrange(8)
        written.write_bytes(bad)
        assert refused(written)


def test_every_cut_is_seen(written: Path) -> None:
    good = written.read_bytes()
    for length in range(0, len(good), 97):
        written.write_bytes(good[:length])
        assert refused(written)


def test_a_changed_number_is_named_as_a_change(written: Path) -> None:
    written.write_bytes(written.read_bytes().replace(b'"threads": 2', b'"threads": 4'))
    assert "does not match its own sha256: it was changed after it was written" in refused(written)


def test_a_swapped_or_missing_picture_is_seen(written: Path) -> None:
    picture = next(written.parent.glob("*.png"))
    picture.write_bytes(png(8, 4, 8))
    read_record(written)
    assert refused(written, pictures=True) == f"picture {picture.name} does not have the sha256 of the record"
    picture.unlink()
    assert refused(written, pictures=True) == f"{picture.name} cannot be read: No such file or directory"


def test_a_picture_of_another_size_is_seen(written: Path) -> None:
    forge(written, lambda d: d["pictures"][0].update(width=9))
    assert refused(written, pictures=True).endswith("does not have the size of the record")


def test_a_record_under_another_name_or_entry(written: Path) -> None:
    assert refused(written, paper="ddpm") == "it is the record of another paper, ddim"
    renamed = written.rename(written.with_name("paper.json"))
    assert refused(renamed) == "it is named paper but is a record at scale mini"


def test_smoke_cannot_pose_as_mini(tmp_path: Path) -> None:
    path = write_record(tmp_path, "smoke", *sample())
    record = read_record(path)
    assert not publishable(record)
    (obstacle,) = obstacles(record)
    assert obstacle.en == "its scale is smoke: only mini and paper are published"
    assert refused(path.rename(tmp_path / "mini.json")) == "it is named mini but is a record at scale smoke"


def test_an_unfinished_run_is_not_publishable(tmp_path: Path) -> None:
    record, pictures = sample()
    record["seeds"]["asked"] = [0, 1, 2, 3]
    path = write_record(tmp_path, "mini", record, pictures)
    assert [each.en for each in obstacles(read_record(path))] == ["seeds [3] did not finish"]
    assert publishable(read_record(write_record(tmp_path, "mini", *sample())))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is not JSON"),
        (b"[]", "it has no `sha256`"),
        (b'{"sha256": 1}', "it has no `sha256`"),
        (b'{"a": 1, "a": 2}', "the key `a` stands twice"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "Out of range float values are not JSON compliant"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it holds an impossible value"),
        (b'{"a": "\\ud800"}', "it is not UTF-8"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b" " * (MAX_BYTES + 1), "more than the limit of 4,194,304"),
    ],
)
def test_what_is_not_a_record(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "mini.json"
    path.write_bytes(data)
    assert reason in refused(path)


def test_only_regular_files_are_read(tmp_path: Path, written: Path) -> None:
    os.mkfifo(tmp_path / "mini.json")
    assert refused(tmp_path / "mini.json") == "mini.json is not a regular file"
    (tmp_path / "paper.json").symlink_to(written)
    assert refused(tmp_path / "paper.json").startswith("paper.json cannot be read")
    assert refused(tmp_path / "smoke.json") == "smoke.json cannot be read: No such file or directory"


def test_another_spelling_of_the_same_record_is_refused(written: Path) -> None:
    written.write_bytes(json.dumps(json.loads(written.read_bytes())).encode())
    assert refused(written) == "it is not spelled as canonical JSON"


def _fid(document: Document) -> Document:
    found: Document = document["arms"][0]["metrics"][0]
    return found


def _negative_fid(document: Document) -> None:
    values = [-1.0, -1.5, -0.8]
    _fid(document).update(metric("fid[effnet-lite0@64]", values), interval=list(interval(values) or ()))
    _fid(document).update(bounds=[0.0, None])


FORGERIES: list[tuple[str, Callable[[Document], object]]] = [
    ("is -1, outside of what it can be: (0.0, None)", _negative_fid),
    ("but the mean over its seeds is 12.1", lambda d: _fid(d).update(value=3.17)),
    ("does not say what its interval is taken over", lambda d: _fid(d).update(interval_over=None)),
    ("over samples, which is for a single seed", lambda d: _fid(d).update(interval_over="samples")),
    ("is reversed", lambda d: _fid(d)["interval"].reverse()),
    ("is not the Student t interval of its seeds", lambda d: _fid(d).update(interval=[12.0, 12.2])),
    ("needs two seeds or more, and then must be given", lambda d: _fid(d).update(interval=None)),
    ("says `fails`, but its interval says `holds`", lambda d: d["claims"][0].update(verdict="fails")),
    ("says `holds`, but its interval says `inconclusive`", lambda d: d["claims"][0].update(margin=50.0)),
    ("says `holds`, but its interval says `fails`", lambda d: d["claims"][0].update(relation=">")),
    ("seeds [7] finished that were not asked for", lambda d: d["seeds"].update(finished=[0, 1, 7])),
    ("a seed stands twice in `asked`", lambda d: d["seeds"].update(asked=[0, 1, 2, 2])),
    ("has the seeds [0, 1, 2], but the seeds [0, 1] finished", lambda d: d["seeds"].update(finished=[0, 1])),
    ("stands twice with the settings", lambda d: d["arms"].append(d["arms"][0])),
    ("a metric stands twice in arm `ddim`", lambda d: d["arms"][0]["metrics"].append(_fid(d))),
    ("needs one arm `ddim` with that metric at", lambda d: d["claims"][0].update(at={"steps": 99})),
    ("needs one arm `edm` with that metric", lambda d: d["claims"][0].update(than="edm")),
    ("needs one arm `ddim` with that metric", lambda d: d["claims"][0].update(metric="fid")),
    (
        "the difference of seed 0 is not that of the arms",
        lambda d: d["arms"][0].update(metrics=[metric("fid[effnet-lite0@64]", [13.0, 12.5, 11.8])]),
    ),
    ("seconds: Input should be greater than or equal to 0", lambda d: d["time"].update(seconds=-1.0)),
    ("the run finished before it started", lambda d: d["time"].update(started="2027-01-01T00:00:00Z")),
    ("is not a time in UTC", lambda d: d["time"].update(started="2026-01-01T00:00:00+09:00")),
    ("Invalid isoformat string", lambda d: d["time"].update(started="yesterday")),
    ("n: Input should be greater than or equal to 1", lambda d: _fid(d).update(n=0)),
    ("n: Input should be a valid integer", lambda d: _fid(d).update(n="256")),
    ("Extra inputs are not permitted", lambda d: d.update(trusted=True)),
    ("environment: Field required", lambda d: d.pop("environment")),
    ("schema: Input should be 'denoised-record/2'", lambda d: d.update(schema="denoised-record/1")),
    ("scale: Input should be", lambda d: d.update(scale="huge")),
    ("key: String should match pattern", lambda d: d.update(key="abc")),
    ("path: String should match pattern", lambda d: d["pictures"][0].update(path="../../secret.png")),
    ("a picture stands twice", lambda d: d["pictures"].append(d["pictures"][0])),
    ("code.commit: String should match pattern", lambda d: d["code"].update(commit="HEAD")),
]


@pytest.mark.parametrize(("reason", "change"), FORGERIES, ids=[reason for reason, _ in FORGERIES])
def test_a_forgery_with_a_right_hash_is_refused(
    written: Path, reason: str, change: Callable[[Document], object]
) -> None:
    said = refused(forge(written, change))
    assert said.startswith("it does not match the schema: ")
    assert reason in said


# --- what is refused when written ------------------------------------------------------------------------


def unwritten(folder: Path, record: Document, pictures: dict[str, bytes]) -> str:
    with pytest.raises(RecordError) as caught:
        write_record(folder, "mini", record, pictures)
    assert not folder.exists()
    return caught.value.reason.en


def test_an_impossible_record_is_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "ddim"
    record, pictures = sample()
    bad = copy.deepcopy(record)
    bad["arms"][0]["metrics"][0]["value"] = math.nan
    assert "Out of range float values" in unwritten(folder, bad, pictures)
    bad = copy.deepcopy(record)
    bad["config"][1] = 2
    assert "the keys of a JSON object are strings" in unwritten(folder, bad, pictures)
    bad = copy.deepcopy(record)
    bad["claims"][0]["verdict"] = "inconclusive"
    assert "but its interval says `holds`" in unwritten(folder, bad, pictures)
    bad = copy.deepcopy(record)
    bad["config"]["padding"] = "x" * MAX_BYTES
    assert "the record is too large" in unwritten(folder, bad, pictures)
    assert "are not the pictures given" in unwritten(folder, record, {})
    assert unwritten(folder, record, {"ddim.png": b"GIF89a" + bytes(40)}) == "ddim.png is not a PNG"


# --- whole or absent -------------------------------------------------------------------------------------


def test_a_killed_writer_leaves_the_old_record_or_the_new_one(tmp_path: Path) -> None:
    chance = random.Random(0)
    folder = tmp_path / "ddim"
    record, _ = sample()
    pictures = {f"{index}.png": png(64, 64, index) for index in range(3)}
    item = record["pictures"][0]
    record["pictures"] = [{**item, "path": name} for name in pictures]
    path = write_record(folder, "mini", record, pictures)
    started = time.perf_counter()
    write_record(folder, "mini", record, pictures)
    one_write = time.perf_counter() - started

    killed = 0
    for attempt in range(120):
        shades = {
            name: png(64, 64, (attempt + 7) % 256) + bytes([index]) for index, name in enumerate(pictures)
        }
        child = os.fork()
        if child == 0:
            try:
                while True:  # until killed
                    record["config"]["eta"] += 1.0
                    write_record(folder, "mini", record, shades)
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0, 3 * one_write))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer died of something else"
        killed += 1
        read_record(path, paper="ddim", pictures=True)
    assert killed >= 100

    write_record(folder, "mini", record, pictures)
    assert sorted(each.name for each in folder.iterdir()) == sorted(
        ["mini.json", *(picture.path for picture in read_record(path).pictures)]
    )


def test_two_writers_take_turns(tmp_path: Path) -> None:
    children = []
    for shade in range(8):
        child = os.fork()
        if child == 0:
            try:
                write_record(tmp_path, "mini", sample()[0], {"ddim.png": png(8, 4, shade)})
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    read_record(tmp_path / "mini.json", pictures=True)
    assert len(list(tmp_path.iterdir())) == 2


def resources(folder: Path, record: Document, pictures: dict[str, bytes]) -> DenoisedError:
    with pytest.raises(DenoisedError) as caught:
        write_record(folder, "mini", record, pictures)
    assert caught.value.code is Exit.RESOURCES
    return caught.value


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    error = resources(tmp_path / "results", *sample())
    assert error.message.startswith(f"cannot write {tmp_path}/results/mini.json (")
    assert error.message.endswith(f" bytes): {tmp_path}/results is a symbolic link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    assert "results/mini.json (" in resources(tmp_path / "results", *sample()).message


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small file system of its own, where this machine lets us mount one."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("mounting a tmpfs is not permitted here (run as root in a container that allows it)")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_full_disk_leaves_the_older_record_untouched(tmpfs: Callable[[str], Path]) -> None:
    folder = tmpfs("size=256k")
    record, pictures = sample()
    write_record(folder, "mini", record, pictures)
    before = snapshot(folder)
    other = {"ddim.png": png(8, 4, 99) + random.Random(0).randbytes(12_000)}
    failed = 0
    for free in range(0, 64 * 1024, 4096):  # full before, while and after each file is written
        filler = folder / "filler"
        used = sum(4096 * -(-len(data) // 4096) for data in before.values())
        filler.write_bytes(bytes(256 * 1024 - used - free))
        error = attempt(folder, record, other)
        filler.unlink()
        if error is None:
            read_record(folder / "mini.json", pictures=True)
            write_record(folder, "mini", record, pictures)
        else:
            failed += 1
            assert error.code is Exit.RESOURCES
            assert error.message.startswith(f"cannot write {folder}/mini")
            assert error.message.endswith("bytes): No space left on device")
            assert error.help == "free some disk space, or choose another folder with --out"
        assert snapshot(folder) == before
    assert 4 <= failed <= 12


def attempt(folder: Path, record: Document, pictures: dict[str, bytes]) -> DenoisedError | None:
    try:
        write_record(folder, "mini", record, pictures)
    except DenoisedError as error:
        return error
    return None


def test_a_file_size_limit_leaves_the_older_record_untouched(written: Path) -> None:
    before = snapshot(written.parent)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
        "sys.path.insert(0, sys.argv[1]); import pathlib, test_record as t\n"
        "print(t.resources(pathlib.Path(sys.argv[2]), *t.sample()).message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, Path(__file__).parent, written.parent],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"cannot write {written} (")
    assert done.stdout.endswith("bytes): File too large\n")
    assert snapshot(written.parent) == before


def test_a_read_only_folder_leaves_the_older_record_untouched(tmpfs: Callable[[str], Path]) -> None:
    folder = tmpfs("size=1m")
    write_record(folder, "mini", *sample())
    before = snapshot(folder)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    error = resources(folder, *sample())
    assert error.message.startswith(f"cannot write {folder}/mini")
    assert error.message.endswith("bytes): Read-only file system")
    assert snapshot(folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(written: Path) -> None:
    before = snapshot(written.parent)
    written.parent.chmod(0o555)
    error = resources(written.parent, *sample())
    written.parent.chmod(0o755)
    assert error.message.endswith("bytes): Permission denied")
    assert snapshot(written.parent) == before


def test_the_schema_has_the_names_of_the_design() -> None:
    assert [field.alias or name for name, field in Record.model_fields.items()] == [
        "schema", "key", "paper", "scale", "seeds", "config", "arms", "claims",
        "environment", "code", "inputs", "pictures", "time", "sha256",
    ]  # fmt: skip
