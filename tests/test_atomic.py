"""Files written in one stroke, by any number of writers."""

import os
import threading

import pytest

from tweedie_inverse.runtime import locks
from tweedie_inverse.runtime.atomic import ready, ready_folder, replace, sweep


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path):
    """Each content is whole; a temporary named by the process would be shared by the threads."""
    path, errors = tmp_path / "file", []
    contents = [bytes([letter]) * 200_000 for letter in range(8)]

    def write(content):
        try:
            for _ in range(20):
                replace(path, content)
                assert path.read_bytes() in contents
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["file"]


def test_two_hosts_with_one_process_number_write_different_temporaries(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 7)
    written = []

    def note(source, target):
        written.append(source)
        os.unlink(source)

    monkeypatch.setattr(os, "replace", note)
    for content in (b"a", b"b"):
        replace(tmp_path / "file", content)
    assert len(set(written)) == 2


def test_permissions_are_those_of_any_new_file(tmp_path):
    """A result in a shared folder must be readable by its readers."""
    before = os.umask(0o027)
    try:
        replace(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace(path, b"old")

    def fail(source, target):
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    for content in (b"new", b"newer"):
        replace(link, content)
        assert link.is_symlink()
        assert (tmp_path / "there" / "file").read_bytes() == content
    assert os.listdir(tmp_path / "there") == ["file"]


def test_nothing_but_a_file_is_written_over(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for path in (tmp_path / "folder", tmp_path / "pipe", tmp_path / "circle", "/dev/null"):
        for write in (lambda path: replace(path, b"content"), ready):
            with pytest.raises(ValueError, match="not a file"):
                write(path)
    assert sorted(os.listdir(tmp_path)) == ["circle", "folder", "pipe"]
    assert os.stat("/dev/null").st_rdev != 0


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path):
    """A kill lets the lock go; a writer that lives holds it."""
    left, living = (tmp_path / f".{letter * 32}.part" for letter in "ab")
    others = [tmp_path / name for name in (".x.part", f"{'c' * 32}.part", "file.part")]
    for path in (left, *others):
        path.write_bytes(b"half")
    with open(living, "xb") as file:
        assert locks.take(file)
        ready_folder(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([living, *others])
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_temporary_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    take, swept = locks.take, []

    def late(file, *, wait=False):
        if wait and not swept:
            swept.append(file.name)
            os.unlink(file.name)
        return take(file, wait=wait)

    monkeypatch.setattr(locks, "take", late)
    replace(tmp_path / "file", b"content")
    assert len(swept) == 1
    assert (tmp_path / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_without_locks_only_old_temporaries_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    replace(tmp_path / "file", b"content")
    left = tmp_path / f".{'a' * 32}.part"
    left.touch()
    sweep(tmp_path)
    assert left.exists()
    os.utime(left, (0, 0))
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("folder", ["file/inside", "/proc/nowhere"])
def test_a_folder_is_tried_before_the_work(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="no file can be written in"):
        ready(tmp_path / folder / "out")
    ready(tmp_path / "new" / "folder" / "out")
    assert os.listdir(tmp_path / "new" / "folder") == []


def test_one_run_at_a_time_in_a_folder(tmp_path):
    with (
        locks.alone_in(tmp_path, "train"),
        pytest.raises(ValueError, match="train: another run is at work in"),
        locks.alone_in(tmp_path, "train"),
    ):
        pass
    with locks.alone_in(tmp_path, "train"):
        pass
