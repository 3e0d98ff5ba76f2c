"""The record of a reproduction: reading and writing it whole or not at all.

A record is one canonical JSON file, `<folder>/<scale>.json`, beside the pictures it names. It carries the
SHA-256 of everything else in it, so a changed byte is seen; `denoised.lab.schema` says what it holds. A record
says nothing of its own trust: the site decides that. Nothing here imports torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from denoised.errors import DenoisedError, Exit
from denoised.files import cannot_write
from denoised.lab.schema import SCHEMA, Record, Scale
from denoised.language import Phrase, reader_language, say

MAX_BYTES = 4 * 2**20  # of a record; a real one is some tens of kilobytes
MAX_PICTURE_BYTES = 16 * 2**20

_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
_PNG = b"\x89PNG\r\n\x1a\n"


class RecordError(DenoisedError):
    """A record that cannot be trusted, with the reason in both languages."""

    def __init__(self, path: Path, reason: Phrase) -> None:
        super().__init__(f"{path}: {reason.to(reader_language())}", code=Exit.INTEGRITY)
        self.reason = reason


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


# What a run puts to the test. A tag, a link or a better sentence must not make every published record look old.
_MEASURED = frozenset({"id", "kind", "title", "claim"})


def entry_sha256(paper: BaseModel) -> str:
    """The hash of what a catalog entry claims, by which a record says which version of it was reproduced."""
    return hashlib.sha256(canonical(paper.model_dump(mode="json", include=set(_MEASURED)))).hexdigest()


# --- reading ---------------------------------------------------------------------------------------------


def read_record(path: Path, *, paper: str | None = None, pictures: bool = False) -> Record:
    """The record at `path`, after everything that can be checked was checked.

    `paper`: the id it must be about. `pictures`: also read every picture and compare its hash. Raises
    RecordError (INTEGRITY) that names what is wrong.
    """
    record, _, _ = _read_checked(path, paper, pictures)
    return record


def _read_checked(path: Path, paper: str | None, pictures: bool) -> tuple[Record, bytes, dict[str, bytes]]:
    """A record that was checked, its bytes, and its pictures' where they were asked for."""
    data = _read(path, MAX_BYTES, path)
    record = _parse(data, path)
    if record.scale != path.stem:
        _bad(
            path,
            ko=f"{path.stem}이라는 이름이지만 {record.scale} 규모의 기록이다",
            en=f"it is named {path.stem} but is a record at scale {record.scale}",
        )
    if paper is not None and record.paper.id != paper:
        other = record.paper.id
        _bad(path, ko=f"다른 논문({other})의 기록이다", en=f"it is the record of another paper, {other}")
    files = {}
    for picture in record.pictures if pictures else ():
        files[picture.path] = content = _read(path.with_name(picture.path), MAX_PICTURE_BYTES, path)
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            _bad(
                path,
                ko=f"그림 {picture.path}의 sha256이 기록과 다르다",
                en=f"picture {picture.path} does not have the sha256 of the record",
            )
        if _png_size(content) != (picture.width, picture.height):
            _bad(
                path,
                ko=f"그림 {picture.path}의 크기가 기록과 다르다",
                en=f"picture {picture.path} does not have the size of the record",
            )
    return record, data, files


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

    _commit(path, data, files)
    return path


def adopt_record(source: Path, folder: Path, *, paper: str) -> Path:
    """Put a record that somebody else wrote, such as a container, into `folder`, byte for byte; its new path.

    It is checked as `read_record` does with its pictures, and what was checked is what is written. Raises RecordError
    (INTEGRITY) and DenoisedError (RESOURCES) as `write_record` does.
    """
    _, data, files = _read_checked(source, paper, pictures=True)
    path = folder / source.name
    _commit(path, data, files)
    return path


def _commit(path: Path, data: bytes, files: Mapping[str, bytes]) -> None:
    """Write a record and its pictures, the record last, and remove the pictures of the one before."""
    folder, scale = path.parent, path.stem
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
