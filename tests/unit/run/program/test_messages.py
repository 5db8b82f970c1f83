"""What the program's process tells its parent, however it ends."""

from pathlib import Path
from threading import Thread

from skjob.run.program.messages import MESSAGES_FILE, Message, MessageReader, MessageWriter


def test_each_letter_is_read_once_and_in_order(tmp_path: Path) -> None:
    writer, reader = MessageWriter(tmp_path), MessageReader(tmp_path)
    assert reader.read_new() == []
    writer.send("note", "two\nlines")
    writer.send("fits", {"fits": 3, "found": 1})
    assert reader.read_new() == [Message("note", "two\nlines"), Message("fits", {"fits": 3, "found": 1})]
    assert reader.read_new() == []
    writer.send("failure", "ValueError: ü")
    assert reader.read_new() == [Message("failure", "ValueError: ü")]


def test_a_line_that_is_not_finished_comes_next_time(tmp_path: Path) -> None:
    MessageWriter(tmp_path).send("note", "whole")
    with (tmp_path / MESSAGES_FILE).open("a") as file:
        file.write('{"kind": "note", "con')
    reader = MessageReader(tmp_path)
    assert reader.read_new() == [Message("note", "whole")]
    with (tmp_path / MESSAGES_FILE).open("a") as file:
        file.write('tent": "half"}\n')
    assert reader.read_new() == [Message("note", "half")]


def test_a_folder_that_is_gone_has_no_reader(tmp_path: Path) -> None:
    MessageWriter(tmp_path / "gone").send("note", "nobody hears")
    assert MessageReader(tmp_path / "gone").read_new() == []


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    writer = MessageWriter(tmp_path)
    threads = [Thread(target=lambda: [writer.send("note", "x" * 5000) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert MessageReader(tmp_path).read_new() == [Message("note", "x" * 5000)] * 200
