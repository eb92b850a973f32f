"""Files that are there whole or not at all."""

import pytest

from keras_psp.atomic import read_table, write_folder_whole, write_table, write_whole


@pytest.mark.parametrize("half", [b"ne", None])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, half):
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


def test_a_folder_is_replaced_whole_by_one_of_its_kind(tmp_path):
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


def test_what_a_row_of_a_table_lacks_is_empty(tmp_path):
    file = write_table(tmp_path / "a.csv", [{"a": 1}, {"a": 2.5, "b": "x, y"}])
    assert read_table(file) == [{"a": "1", "b": ""}, {"a": "2.5", "b": "x, y"}]
