from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import Conflict, InvalidSetting, StorageCorrupt, Unavailable
from paytm_lab.fraud.rule_book import BY_SETTINGS, DOCUMENT, RuleBook
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.tables import WIDE_TABLES
from tests.waiting import until

FIRST = RuleSettings(velocity_limit=5)


class Place:
    """Where a book lies; ``open`` as another process would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SimulatedClock()
        self.store = EmbeddedWideStore(folder / "wide.sqlite")
        self.store.create_tables(WIDE_TABLES)
        self.opened: list[EmbeddedCoordination] = []

    def coordination(self) -> EmbeddedCoordination:
        self.opened.append(EmbeddedCoordination(self.folder / "coordination"))
        return self.opened[-1]

    def open(self, first: RuleSettings = FIRST, **given: Any) -> RuleBook:
        return RuleBook(self.coordination(), self.store, self.clock, first, given)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for each in place.opened:
        each.close()
    place.store.close()


def test_a_book_begins_with_what_it_is_given_and_stays(place: Place) -> None:
    book = place.open()
    assert (book.rules.version, book.rules.velocity_limit) == (1, 5)
    assert place.open(RuleSettings(velocity_limit=9)).rules == book.rules
    assert book.read().changed_by == BY_SETTINGS


def test_two_that_begin_it_at_once_have_the_same(place: Place) -> None:
    start = threading.Barrier(8)
    books: list[RuleBook] = []
    failed: list[Exception] = []

    def begin(limit: int) -> None:
        start.wait()
        try:
            books.append(place.open(RuleSettings(velocity_limit=limit), velocity_limit=limit))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=begin, args=(n + 1,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    until(lambda: len({book.rules.version for book in books}) == 1)
    assert len({book.rules for book in books}) == 1
    versions = [each.version for each in books[0].history(None, 100)]
    assert versions == list(range(versions[0], 0, -1))


def test_of_changes_from_many_threads_one_is_made_per_version(place: Place) -> None:
    books = [place.open() for _ in range(4)]
    for version in range(1, 6):
        start = threading.Barrier(len(books))
        made: list[int] = []
        lost: list[Conflict] = []

        def change(number: int, version: int = version) -> None:
            start.wait()  # noqa: B023 - joined below
            try:
                books[number].change(version, {"velocity_limit": 10 * version + number}, "x", "y")
                made.append(number)  # noqa: B023
            except Conflict as error:
                lost.append(error)  # noqa: B023

        threads = [threading.Thread(target=change, args=(n,)) for n in range(len(books))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1 and len(lost) == len(books) - 1
        assert books[0].read().rules.velocity_limit == 10 * version + made[0]


def test_who_follows_hears_of_every_newest_once_and_never_of_an_older(place: Place) -> None:
    book, other = place.open(), place.open()
    heard: list[int] = []
    other.follow(lambda rules: heard.append(rules.version))
    for version in range(1, 30):
        book.change(version, {"velocity_limit": 100 + version}, "x", "y")
    until(lambda: heard[-1] == 30)
    assert heard[0] == 1 and heard == sorted(set(heard))


def test_rules_that_cannot_be_are_no_change(place: Place) -> None:
    book = place.open()
    for values in ({"velocity_limit": 0}, {"review_score": 1.5}, {"velocity_window_s": -1.0}):
        with pytest.raises(InvalidSetting):
            book.change(1, values, "x", "y")
    assert book.read().version == 1


def test_a_book_whose_document_was_lost_goes_on_from_its_history(place: Place) -> None:
    book = place.open()
    book.change(1, {"velocity_limit": 50}, "asha", "more")
    book.change(2, {"velocity_limit": 60}, "asha", "more")
    (place.folder / "coordination" / "documents" / f"{DOCUMENT}.doc").unlink()
    with pytest.raises(StorageCorrupt, match="not there any more"):
        book.read()
    again = place.open()
    assert (again.rules.version, again.rules.velocity_limit) == (4, 60)
    assert [each.version for each in again.history(None, 10)] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"rules": {}}', b'{"rules": {"velocity_limit": -5}}']
)
def test_a_document_that_is_none_is_said(place: Place, body: bytes) -> None:
    place.coordination().write_document(DOCUMENT, body, None)
    with pytest.raises(StorageCorrupt, match="cannot be read"):
        place.open()


def test_rules_stay_in_force_while_the_document_is_spoilt(place: Place) -> None:
    book = place.open()
    coordination = place.coordination()
    coordination.write_document(DOCUMENT, b"spoilt", 1)
    assert book.rules.velocity_limit == 5
    with pytest.raises(StorageCorrupt):
        book.change(1, {"velocity_limit": 6}, "x", "y")


def test_without_a_history_there_is_no_change(place: Place) -> None:
    book = place.open()
    place.store.available = False
    with pytest.raises(Unavailable):
        book.change(1, {"velocity_limit": 6}, "x", "y")
    place.store.available = True
    assert book.read().version == 1
    assert book.change(1, {"velocity_limit": 6}, "x", "y").version == 2
