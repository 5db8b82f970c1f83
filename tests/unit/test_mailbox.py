"""What the program's process tells its parent, however it ends."""

from pathlib import Path
from threading import Thread

from skjob.mailbox import FILE, Letter, Reader, Writer


def test_each_letter_is_read_once_and_in_order(tmp_path: Path) -> None:
    writer, reader = Writer(tmp_path), Reader(tmp_path)
    assert reader.news() == []
    writer.send("note", "two\nlines")
    writer.send("fits", {"fits": 3, "found": 1})
    assert reader.news() == [Letter("note", "two\nlines"), Letter("fits", {"fits": 3, "found": 1})]
    assert reader.news() == []
    writer.send("failure", "ValueError: ü")
    assert reader.news() == [Letter("failure", "ValueError: ü")]


def test_a_line_that_is_not_finished_comes_next_time(tmp_path: Path) -> None:
    Writer(tmp_path).send("note", "whole")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "note", "con')
    reader = Reader(tmp_path)
    assert reader.news() == [Letter("note", "whole")]
    with (tmp_path / FILE).open("a") as file:
        file.write('tent": "half"}\n')
    assert reader.news() == [Letter("note", "half")]


def test_a_folder_that_is_gone_has_no_reader(tmp_path: Path) -> None:
    Writer(tmp_path / "gone").send("note", "nobody hears")
    assert Reader(tmp_path / "gone").news() == []


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    threads = [Thread(target=lambda: [writer.send("note", "x" * 5000) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Reader(tmp_path).news() == [Letter("note", "x" * 5000)] * 200
