"""Files that are there whole or not at all."""

import pytest

from keras_psp.atomic import read_table, write_folder_whole, write_table, write_whole


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


def test_missing_values_of_a_row_are_empty(tmp_path):
    rows = [{"a": 1, "b": float("nan")}, {"a": 2.5, "b": "x, ÿ"}]
    file = write_table(tmp_path / "a.csv", rows)
    assert read_table(file) == [{"a": "1", "b": ""}, {"a": "2.5", "b": "x, ÿ"}]
    assert file.read_bytes().decode() == 'a,b\r\n1,\r\n2.5,"x, ÿ"\r\n'
