"""User classes that a locustfile cannot have are told when it is validated, where its text tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidFile
from harness.model.resolving import resolve
from harness.model.user_classes import classes_in
from tests.systems import SCENARIO, SYSTEM, write_system

PLAIN = "from locust import HttpUser, task\n\nclass Shopper(HttpUser):\n    @task\n    def buy(self): ...\n"


def problems(folder: Path, classes: str, locustfile: str = PLAIN, **files: str) -> list[str]:
    path = write_system(folder, scenario=SCENARIO + classes, **files)
    (folder / "locustfile.py").write_text(locustfile, encoding="utf-8")
    try:
        resolve(path, environ={})
    except InvalidFile as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_misspelt_class_is_told_by_its_line(tmp_path: Path) -> None:
    assert problems(tmp_path, "load: {classes: [Shopper, Shoper]}\n") == [
        f"{tmp_path}/scenario.yaml:10:27: expected a class of {tmp_path}/locustfile.py, found 'Shoper'; did you mean 'Shopper'?"
    ]


def test_that_of_the_system_is_told_in_the_system(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, "", system=SYSTEM.replace("rate: 60/s", "rate: 60/s, classes: [Shoper]"))

    assert told.startswith(f"{tmp_path}/system.yaml:4:30: expected a class of ")


@pytest.mark.parametrize(
    "locustfile",
    [
        PLAIN.replace("Shopper", "Buyer"),
        "from shop.users import Buyer\n",
        "from shop.users import Customer as Buyer\n",
        "from shop import make\nBuyer = make()\n",
        "if True:\n    class Buyer: ...\n",
        "from shop.users import *\n",
        "globals()['Buyer'] = object\n",
        "import shop\nshop.setattr(1, 2, 3)\n",
        "exec('class Buyer: ...')\n",
        "class Buyer(\n",
        "\0",
        "x = " + "(" * 500 + ")" * 500,
    ],
)
def test_where_the_class_may_be_there_nothing_is_said(tmp_path: Path, locustfile: str) -> None:
    assert problems(tmp_path, "load: {classes: [Buyer]}\n", locustfile) == []


def test_a_scenario_that_names_no_class_has_no_need_of_a_locustfile_that_can_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path, "", "class (:\n") == []


@given(st.text(max_size=200))
def test_reading_any_text_raises_nothing(text: str) -> None:
    assert classes_in(text) is None or isinstance(classes_in(text), frozenset)
