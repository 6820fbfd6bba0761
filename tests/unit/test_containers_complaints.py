"""What Compose and engines of several versions say where a system does not come up, and what a person is told."""

from __future__ import annotations

import pytest

from harness.runtime.containers.complaints import Taken, of_images, of_nothing_known, of_the_engine, with_log
from harness.runtime.containers.images import PYTHON_IMAGE, TOXIPROXY_IMAGE
from harness.runtime.containers.project import how_ended
from harness.runtime.containers.rewrite import PROXIES

HOST = "tcp://engine:2375"
FROM_DAEMON = "Error response from daemon: "

TAKEN = {
    "a subnet, 20.10": f"failed to create network shop_a: {FROM_DAEMON}Pool overlaps with other one on this address space",
    "a subnet, 28": f"failed to create network shop_a: {FROM_DAEMON}invalid pool request: Pool overlaps with other one on this "
    "address space",
    "a port of a container": f"{FROM_DAEMON}driver failed programming external connectivity on endpoint shop-a-1 (4acf247077ee): "
    "Bind for 127.0.0.1:33999 failed: port is already allocated",
    "a port of a process": f"{FROM_DAEMON}driver failed programming external connectivity on endpoint shop-a-1 (4acf247077ee): "
    "Error starting userland proxy: listen tcp4 127.0.0.1:33999: bind: address already in use",
    "a port, 28": f"{FROM_DAEMON}failed to set up container networking: driver failed programming external connectivity on "
    "endpoint shop-a-1 (4acf): failed to bind host port 127.0.0.1:33999/tcp: address already in use",
    "a port, Desktop": f"{FROM_DAEMON}Ports are not available: exposing port TCP 127.0.0.1:33999 -> 0.0.0.0:0: listen tcp "
    "127.0.0.1:33999: bind: Only one usage of each socket address is normally permitted.",
}

EXHAUSTED = {
    "20.10": f"failed to create network shop_default: {FROM_DAEMON}could not find an available, non-overlapping IPv4 address pool "
    "among the defaults to assign to the network",
    "27": f"failed to create network shop_default: {FROM_DAEMON}all predefined address pools have been fully subnetted",
}

REFUSED = 'Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
UNKNOWN_HOST = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 10.0.0.2:53: no such host'
NO_IMAGE = {
    "refused": REFUSED,
    "no such host": UNKNOWN_HOST,
    "no answer": 'Get "https://registry-1.docker.io/v2/": net/http: request canceled while waiting for connection '
    "(Client.Timeout exceeded while awaiting headers)",
    "not there": "pull access denied for shop/back, repository does not exist or may require 'docker login': denied: requested "
    "access to the resource is denied",
    "no such version": "manifest for redis:99 not found: manifest unknown: manifest unknown",
    "too many": "toomanyrequests: You have reached your pull rate limit.",
}

NO_BASE = """#3 [back internal] load metadata for docker.io/library/python:3.11-slim
#3 ERROR: failed to do request: Head "https://registry-1.docker.io/v2/library/python/manifests/3.11-slim": dial tcp: lookup \
registry-1.docker.io on 10.0.0.2:53: no such host
------
 > [back internal] load metadata for docker.io/library/python:3.11-slim:
------
failed to solve: rpc error: code = Unknown desc = failed to solve with frontend dockerfile.v0: failed to create LLB definition"""

BROKEN_BUILD = """#5 [back 2/2] RUN make
#5 0.3 the compiler is on holiday
#5 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 3
------
 > [back 2/2] RUN make:
0.3 the compiler is on holiday
------
failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 3"""

CLASSIC_BUILD = "The command '/bin/sh -c make' returned a non-zero code: 3"
NO_DOCKERFILE = "failed to solve: failed to read dockerfile: open Nowhere: no such file or directory"
IMAGES = {"front": "shop/front:1", "back": "shop/back:1"}


@pytest.mark.parametrize("said", TAKEN.values(), ids=TAKEN)
def test_what_was_taken_meanwhile_is_worth_another_try(said: str) -> None:
    assert isinstance(of_the_engine(said, HOST, "127.0.0.1"), Taken)
    assert of_images(said, IMAGES) is None


@pytest.mark.parametrize("said", EXHAUSTED.values(), ids=EXHAUSTED)
def test_an_engine_without_addresses_is_told_with_what_to_do(said: str) -> None:
    told = of_the_engine(said, HOST, "127.0.0.1")

    assert not isinstance(told, Taken)
    assert "docker network prune" in str(told)
    assert "default-address-pools" in str(told)
    assert said in str(told)


def test_an_address_that_is_not_the_engines_own_is_told_with_what_to_do() -> None:
    said = f"{FROM_DAEMON}Error starting userland proxy: listen tcp4 10.7.7.7:33999: bind: cannot assign requested address"

    told = of_the_engine(said, HOST, "10.7.7.7")

    assert not isinstance(told, Taken)
    assert f"{HOST} has no address 10.7.7.7" in str(told)


@pytest.mark.parametrize("said", NO_IMAGE.values(), ids=NO_IMAGE)
def test_an_image_that_cannot_be_had_is_named_with_what_to_do(said: str) -> None:
    told = str(of_images(f" back Pulling \n front Pulling \n back Error {said}\n{FROM_DAEMON}{said}", IMAGES))

    assert "an image could not be had: shop/back:1 of back; where no registry is in reach" in told
    assert "--runtime local" in told
    assert said in told


def test_a_base_image_that_cannot_be_had_is_no_broken_build() -> None:
    told = str(of_images(NO_BASE, IMAGES))

    assert "an image could not be had: docker.io/library/python:3.11-slim, the base of back" in told
    assert "could not be built" not in told


def test_many_images_that_cannot_be_had_are_named_in_one_line_and_why_in_another() -> None:
    """With pull progress and a reason for each, Compose says some sixty lines."""
    names = [f"service{number}" for number in range(20)]
    said = "\n".join(f" {name} {what}" for what in ("Pulling", "Waiting", f"Error {REFUSED}") for name in names)

    told = str(of_images(said, {name: f"shop/{name}:1" for name in names}))

    assert len(told.splitlines()) == 2
    assert all(f"shop/{name}:1 of {name}" in told for name in names)
    assert told.splitlines()[1].strip() == f"service19 Error {REFUSED}"


def test_the_reason_is_told_and_not_what_follows_from_it() -> None:
    assert "no such host" in str(of_images(NO_BASE, IMAGES)).splitlines()[-1]
    assert "LLB" not in str(of_images(NO_BASE, IMAGES))


@pytest.mark.parametrize(
    ("said", "names", "names_not"),
    [
        (f" {PROXIES} Error {REFUSED}", TOXIPROXY_IMAGE, PYTHON_IMAGE),
        (NO_BASE.replace("[back internal]", f"[{PROXIES} internal]"), PYTHON_IMAGE, TOXIPROXY_IMAGE),
    ],
)
def test_the_variable_named_is_the_one_that_names_the_image_of_these_proxies(said: str, names: str, names_not: str) -> None:
    told = str(of_images(said, {PROXIES: "ghcr.io/shopify/toxiproxy:2.12.0"}))

    assert names in told
    assert names_not not in told


def test_no_variable_of_the_proxies_is_named_where_their_image_is_not_what_is_missing() -> None:
    told = str(of_images(f" back Error {REFUSED}", IMAGES))

    assert TOXIPROXY_IMAGE not in told
    assert PYTHON_IMAGE not in told


def test_where_the_rest_is_stands_at_the_end_and_the_kind_of_error_stays() -> None:
    told = with_log(Taken("a port was taken"), "reports/x/logs/compose.log")

    assert isinstance(told, Taken)
    assert str(told).splitlines() == ["a port was taken", "    all that docker compose said is in reports/x/logs/compose.log"]


@pytest.mark.parametrize("said", [BROKEN_BUILD, CLASSIC_BUILD, NO_DOCKERFILE])
def test_a_build_that_fails_is_told_with_its_last_lines(said: str) -> None:
    told = str(of_images(said, IMAGES))

    assert "an image could not be built" in told
    assert said.splitlines()[-1] in told


@pytest.mark.parametrize("said", ["dependency failed to start: container shop-back-1 exited (1)", ""])
def test_what_is_not_known_is_told_in_composes_own_words(said: str) -> None:
    assert of_the_engine(said, HOST, "127.0.0.1") is None
    assert of_images(said, IMAGES) is None
    assert said in str(of_nothing_known(said))


@pytest.mark.parametrize("said", [*EXHAUSTED.values(), *TAKEN.values()])
def test_a_lack_of_room_is_no_lack_of_an_image(said: str) -> None:
    assert of_images(said, IMAGES) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (137, "killed by SIGKILL"), (143, "killed by SIGTERM"), (255, "exit code 255")],
)
def test_what_a_container_ended_with_is_told_as_of_a_process(code: int, words: str) -> None:
    assert how_ended(code) == words
