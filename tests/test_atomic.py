"""Files that are there whole or not at all."""

import os
import threading
import time

import pytest

from keras_psp import atomic
from keras_psp.atomic import (
    check_writable,
    read_table,
    write_folder_whole,
    write_table,
    write_whole,
)


@pytest.mark.parametrize("half", [b"ne", None])
def test_failed_write_leaves_only_the_old_file(tmp_path, half):
    file = write_whole(tmp_path / "new" / "folder" / "file.txt", b"old")

    def fail(path):
        if half:
            path.write_bytes(half)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail)
    assert file.read_bytes() == b"old"
    assert write_whole(file, lambda path: path.write_bytes(b"new")).read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


def test_nobody_can_put_a_link_in_the_way(tmp_path):
    target = tmp_path / "of somebody else.txt"
    target.write_bytes(b"mine")
    for name in (".partial-file.txt", ".partial-", ".old-file.txt"):
        (tmp_path / name).symlink_to(target)
    write_whole(tmp_path / "file.txt", b"new")
    assert target.read_bytes() == b"mine"


def test_any_name_that_the_system_takes(tmp_path):
    assert write_whole(tmp_path / ("n" * 251 + ".png"), b"new").read_bytes() == b"new"


def test_two_writers_do_not_spoil_each_others_file(tmp_path):
    file, contents = write_whole(tmp_path / "file.txt", b"old"), {b"old"}

    def write(content):
        for _ in range(50):
            write_whole(file, content)

    writers = [threading.Thread(target=write, args=[letter * 9000]) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        contents.add(file.read_bytes())
    assert contents <= {b"old", b"a" * 9000, b"b" * 9000}
    assert list(tmp_path.iterdir()) == [file]


def test_two_processes_may_look_at_once_whether_a_folder_can_be_written_to(tmp_path, monkeypatch):
    write = atomic.write_whole

    def write_beside_another_process(file, content):
        write(file, content)
        write(file, content).unlink()  # the other's
        return file

    monkeypatch.setattr(atomic, "write_whole", write_beside_another_process)
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="other systems have no umask")
def test_a_file_may_be_read_by_whom_the_user_lets_read(tmp_path):
    before = os.umask(0o027)
    try:
        file = write_whole(tmp_path / "file.txt", b"new")
        folder = write_folder_whole(tmp_path / "folder", lambda path: path.mkdir(), "mark")
    finally:
        os.umask(before)
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o640, 0o750)


def test_what_a_killed_process_left_goes_after_a_day(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious.txt").touch()
    for name in (".partial-old", ".partial-writes", ".partial-young"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.txt").touch()
    (tmp_path / ".partial-file.txt").touch()
    (tmp_path / ".partial-link").symlink_to(mine)
    yesterday = time.time() - 2 * 24 * 60 * 60
    old = [".partial-old", ".partial-old/half.txt", ".partial-writes", ".partial-file.txt"]
    for name in old:
        os.utime(tmp_path / name, (yesterday, yesterday))
    os.utime(tmp_path / ".partial-link", (yesterday, yesterday), follow_symlinks=False)
    write_whole(tmp_path / "file.txt", b"new")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mine", "file.txt", ".partial-writes", ".partial-young"}
    assert (mine / "precious.txt").exists()


def test_folder_replaces_only_its_own_kind(tmp_path):
    def write(*names):
        def make(folder):
            folder.mkdir()
            for name in names:
                (folder / name).touch()
            assert "bad" not in names, "disk full"

        return write_folder_whole(tmp_path / "new" / "folder", make, "mark")

    folder = write("mark", "old")
    with pytest.raises(AssertionError, match="disk full"):
        write("mark", "bad")
    assert sorted(path.name for path in folder.iterdir()) == ["mark", "old"]
    assert sorted(path.name for path in write("mark").iterdir()) == ["mark"]
    (folder / "mark").unlink()
    with pytest.raises(ValueError, match=r"holds mark\. Received: path='.*folder', which is some"):
        write("mark")
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_exchanged(tmp_path, monkeypatch, at_once):
    def write(text):
        def make(folder):
            folder.mkdir()
            (folder / "mark").write_text(text)

        return write_folder_whole(tmp_path / "folder", make, "mark")

    if not at_once:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    write("old")

    def kill(source, target):
        if target == tmp_path / "folder":
            raise KeyboardInterrupt
        replace(source, target)

    replace = os.replace
    if not at_once:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", kill)
            with pytest.raises(KeyboardInterrupt):
                write("new")
        assert not (tmp_path / "folder").exists()
        with pytest.raises(ZeroDivisionError):
            write_folder_whole(tmp_path / "folder", lambda folder: 1 / 0, "mark")
        assert (tmp_path / "folder" / "mark").read_text() == "old"
    assert (write("new") / "mark").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_folder_is_exchanged_after_a_kill_that_left_the_older_one(tmp_path, monkeypatch):
    def write(text):
        def make(folder):
            folder.mkdir()
            (folder / "mark").write_text(text)

        return write_folder_whole(tmp_path / "folder", make, "mark")

    def kill(source, target):
        if source == tmp_path / ".old-folder":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    write("old")
    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            write("new")
    assert (tmp_path / ".old-folder" / "mark").read_text() == "old"
    assert (write("newer") / "mark").read_text() == "newer"
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_missing_values_of_a_row_are_empty(tmp_path):
    rows = [{"a": 1, "b": float("nan")}, {"a": 2.5, "b": "x, ÿ"}]
    file = write_table(tmp_path / "a.csv", rows)
    assert read_table(file) == [{"a": "1", "b": ""}, {"a": "2.5", "b": "x, ÿ"}]
    assert file.read_bytes().decode() == 'a,b\r\n1,\r\n2.5,"x, ÿ"\r\n'


def test_texts_are_no_formulas(tmp_path):
    names = ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "'=1", "''=1", "'quoted'", "a=b", "it's", ""]
    file = write_table(tmp_path / "a.csv", [{"name": name, "value": -0.5} for name in names])
    assert [row["name"] for row in read_table(file)] == names
    assert {row["value"] for row in read_table(file)} == {"-0.5"}
    lines = file.read_text().splitlines()[1:]
    assert not [line for line in lines if line.lstrip('"')[0] in "=+-@\t"]
