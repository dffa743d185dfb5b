"""Logs as well-known datasets are published, without a header: what is suggested reads them, or nothing is guessed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from readers_kit import read_log

from distill_at_scale.errors import DasError

USERS = [10423, 10423, 20871, 20871, 31990, 31990]


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(DasError, match="looks like data") as error:
        read_log(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        # Foursquare: an offset from UTC is no rating.
        ("{u}\t4a{k}c\tTue Apr 03 18:0{k}:09 +0000 2012\t-240", "user_id item_id timestamp column4"),
        # Twitch: numbers of streams are no times.
        ("{u},3384286574{k},streamer{k},{k}01", "user_id item_id column3 column4"),
        ("{u}\ti{k}\t1{k}/Feb/2010:06:00:00 +0000", "user_id item_id timestamp"),
        ("{u}\ti{k}\t{k}\tMay 0{k}, 2012", "user_id item_id rating timestamp"),
        # Gowalla with both coordinates in one field: the comma stands in all lines, and once in each.
        ("{u}\ti{k}\t30.2{k},-97.7\t2010-10-1{k}T23:55:27Z", "user_id item_id column3 timestamp"),
        # A spreadsheet with decimal commas.
        ("{u};i{k};{k},5;0{k}.08.2012 07:27", "user_id item_id column3 timestamp"),
        ("{u}|i{k}|{k}|Feb 0{k}, 2007", "user_id item_id rating timestamp"),
        ("{u},i{k},{k},134836788{k}", "user_id item_id rating timestamp"),
        ("{u}\ti{k}\t{k}\t63747648000000000{k}", "user_id item_id rating timestamp"),
    ],
)
def test_the_columns_that_are_suggested(tmp_path: Path, line: str, columns: str) -> None:
    path = tmp_path / "log.txt"
    said = refusal(path, "".join(line.format(u=user, k=k + 1) + "\n" for k, user in enumerate(USERS)))
    assert re.search(r"--columns ([a-z0-9_ ]+) \(check", said)[1] == columns  # type: ignore[index]
    # The suggestion is followed, without the columns that need more to be read.
    good, bad = read_log(path, columns=columns.split(), map={"timestamp": "", "rating": ""})
    assert (good["user_id"].to_list(), bad.height) == (USERS, 0)


def test_a_delimiter_is_chosen_by_the_number_of_names(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"{user},{k}|a|b\n" for k, user in enumerate(USERS)))
    assert read_log(path, columns=["user_id", "item_id"])[0]["item_id"].to_list() == [f"{k}|a|b" for k in range(6)]
    path.write_text("".join(f"{user}|{k}|x,y\n" for k, user in enumerate(USERS)))
    good, _ = read_log(path, columns=["user_id", "item_id", "note"])
    assert good["item_id"].to_list() == list(range(6))
