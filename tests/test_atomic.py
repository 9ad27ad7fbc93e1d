"""Files written in one stroke, by any number of writers."""

import os
import threading

import pytest

from tweedie_inverse.runtime.atomic import replace


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
