"""A workplace that is taken over: its files come along, and whoever had it before finds no folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.service.workplace import publish, reopen, take_workplace


def test_whoever_takes_it_has_what_was_there_and_nobody_else_can_write(tmp_path: Path) -> None:
    first = take_workplace(tmp_path)
    (first / "twins" / "seg").mkdir(parents=True)
    (first / "checkpoint").write_text("epoch 3")
    half = (first / "twins" / "seg" / "checkpoint.partial").open("w")  # a process of the first driver is writing
    second = take_workplace(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [second.name]
    assert (second / "checkpoint").read_text() == "epoch 3"
    (second / "twins" / "seg" / "checkpoint.partial").write_text("the second driver's")
    half.write("the first driver's")
    half.close()
    assert (second / "twins" / "seg" / "checkpoint.partial").read_text() == "the second driver's"
    with pytest.raises(FileNotFoundError):
        (first / "checkpoint").write_text("epoch 4")


def test_what_is_finished_moves_out_and_back_where_that_was_too_early(tmp_path: Path) -> None:
    place = take_workplace(tmp_path)
    for name in ("one", "other"):
        (place / "twins" / name).mkdir(parents=True)
        assert publish(tmp_path, place, "twins") == tmp_path / "twins"
        assert [path.name for path in (tmp_path / "twins").iterdir()] == [name]  # what was there is replaced
    place = take_workplace(tmp_path)
    assert reopen(tmp_path, place, "twins") == place / "twins"
    assert (place / "twins" / "other").is_dir()
    assert not (tmp_path / "twins").exists()
    assert not reopen(tmp_path, place, "checkpoint").exists()
