"""The rewrite of a system for containers: a pure function, tried on files of every style, as Compose hands them over."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import CouldNotRun
from harness.model.compose_config import compose_from_config
from harness.model.edges import Edge
from harness.plan.plan import PlannedProxy
from harness.runtime.containers.images import engine_container
from harness.runtime.containers.rewrite import (
    CONTROL,
    IGNORED_SOURCES,
    PROXIES,
    TOKEN,
    TOKEN_FILE,
    Asked,
    EngineContainer,
    Rewritten,
    Wanted,
    detour_to,
    rewrite,
)
from harness.runtime.containers.subnets import Subnets, first_host, free_blocks, last_host
from harness.runtime.ports import ProxyMade

ENGINE = EngineContainer(image="proxies", command=["-host", "{host}"])
BLOCK = IPv4Network("10.9.0.0/20")


def config(**services: dict[str, Any]) -> dict[str, Any]:
    """What `docker compose config` hands over for these services."""
    return {
        "name": "shop",
        "services": {name: {"image": name, "networks": {"default": None}, **said} for name, said in services.items()},
        "networks": {"default": {"name": "shop_default", "ipam": {}}},
    }


def proxy(edge: str, port: int = 8000, *, spare: bool = False) -> PlannedProxy:
    caller, callee = edge.split(" -> ")
    name = f"{edge} (spare)" if spare else edge
    return PlannedProxy(name=name, caller="client" if spare else caller, callee=callee, port=port, protocol="http", spare=spare)


WAY_IN = proxy("client -> front")


def rewritten(model: dict[str, Any], *proxies: PlannedProxy, **more: Any) -> Rewritten:
    return rewrite(
        model,
        Wanted(
            project="chaos-1",
            compose=compose_from_config(model),
            proxies=(WAY_IN, *proxies),
            engine=more.pop("engine", ENGINE),
            subnets=Subnets(more.pop("block", BLOCK)),
            published_on="127.0.0.1",
            host_ports=range(40_000, 40_100),
            **more,
        ),
    )


def networks_of(result: Rewritten, service: str) -> set[str]:
    return set(result.model["services"][service]["networks"])


def made(result: Rewritten, name: str) -> ProxyMade:
    return next(one for one in result.proxies if one.name == name)


SHOP = config(front={}, back={}, other={})


def test_caller_and_callee_share_no_network_but_each_shares_one_with_the_proxies() -> None:
    result = rewritten(SHOP, proxy("front -> back"))

    assert not networks_of(result, "front") & networks_of(result, "back")
    assert networks_of(result, "front") & networks_of(result, PROXIES)
    assert networks_of(result, "back") & networks_of(result, PROXIES)


def test_the_proxies_answer_to_the_callees_name_where_the_caller_is_and_nowhere_else() -> None:
    result = rewritten(SHOP, proxy("front -> back"))
    named = {
        network
        for network, how in result.model["services"][PROXIES]["networks"].items()
        if "back" in (how or {}).get("aliases", ())
    }

    assert named == {"edge-front-back"}
    assert named <= networks_of(result, "front")
    assert not named & networks_of(result, "other")


def test_a_proxy_listens_on_its_edges_address_and_forwards_by_a_name_that_is_the_callees_alone() -> None:
    result = rewritten(SHOP, proxy("front -> back"))
    edge = made(result, "front -> back")

    assert IPv4Address(edge.listen.host) == last_host(result.networks["front -> back"])
    assert edge.listen.port == edge.upstream.port == 8000
    assert edge.upstream.host == "door-back"
    assert result.model["services"]["back"]["networks"]["door-back"] == {"aliases": ["door-back"]}


def test_two_callees_on_one_port_have_addresses_of_their_own() -> None:
    result = rewritten(SHOP, proxy("front -> back"), proxy("front -> other"))

    assert made(result, "front -> back").listen != made(result, "front -> other").listen


def test_two_ports_of_one_callee_are_two_proxies_on_one_address() -> None:
    result = rewritten(
        SHOP, proxy("front -> back", 8000), proxy("front -> back", 9000).model_copy(update={"name": "front -> back:9000"})
    )

    assert made(result, "front -> back").listen.host == made(result, "front -> back:9000").listen.host
    assert made(result, "front -> back:9000").upstream.port == 9000


def test_every_network_of_a_service_is_internal_and_only_the_control_network_is_not() -> None:
    result = rewritten(SHOP, proxy("front -> back"))
    outward = {name for name, network in result.model["networks"].items() if not network["internal"]}

    assert outward == {CONTROL}
    assert all(CONTROL not in networks_of(result, service) for service in ("front", "back", "other"))


def test_a_service_without_edges_has_a_network_of_its_own_and_no_way_out() -> None:
    result = rewritten(SHOP, proxy("front -> back"))

    assert networks_of(result, "other") == {"alone-other"}
    assert result.model["networks"]["alone-other"]["internal"]


def test_a_service_that_needs_the_outside_gets_a_network_that_nobody_else_is_on() -> None:
    result = rewritten(SHOP, proxy("front -> back"), egress=["back"])
    members = [name for name in result.model["services"] if "egress-back" in networks_of(result, name)]

    assert members == ["back"]
    assert not result.model["networks"]["egress-back"]["internal"]


def test_the_way_in_the_control_api_and_what_is_asked_are_published_on_loopback_alone() -> None:
    result = rewritten(SHOP, proxy("front -> back"), asked=[Asked("back", 8000)])
    ports = result.model["services"][PROXIES]["ports"]

    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert set(result.published) == {CONTROL, "client -> front", "chaos -> back:8000"}
    assert sorted(result.published.values()) == sorted(int(port["published"]) for port in ports)
    assert all("ports" not in said for name, said in result.model["services"].items() if name != PROXIES)


def test_a_way_in_on_the_control_apis_port_listens_beside_it() -> None:
    result = rewritten(SHOP, proxy("front -> back"))
    clash = rewrite(
        SHOP,
        Wanted(
            project="chaos-1",
            compose=compose_from_config(SHOP),
            proxies=(proxy("client -> front", 8474),),
            engine=ENGINE,
            subnets=Subnets(BLOCK),
            published_on="127.0.0.1",
            host_ports=range(40_000, 40_010),
        ),
    )

    assert made(result, "client -> front").listen.port == 8000
    assert made(clash, "client -> front").listen.port != 8474
    assert made(clash, "client -> front").upstream.port == 8474


def test_a_spare_proxy_has_a_network_on_which_nobody_is() -> None:
    result = rewritten(SHOP, proxy("front -> back"), proxy("front -> back", spare=True))
    network = next(name for name, subnet in _subnets(result).items() if subnet == result.networks["front -> back (spare)"])

    assert [name for name in result.model["services"] if network in networks_of(result, name)] == [PROXIES]


def _subnets(result: Rewritten) -> dict[str, IPv4Network]:
    return {name: IPv4Network(said["ipam"]["config"][0]["subnet"]) for name, said in result.model["networks"].items()}


def test_every_service_waits_for_the_proxies_and_for_whom_it_waited_before() -> None:
    model = config(front={"depends_on": {"back": {"condition": "service_healthy", "required": True}}}, back={})
    result = rewritten(model, proxy("front -> back"))

    assert result.model["services"]["front"]["depends_on"].keys() == {"back", PROXIES}
    assert result.model["services"]["front"]["depends_on"]["back"]["condition"] == "service_healthy"
    assert result.model["services"]["back"]["depends_on"][PROXIES]["condition"] == "service_started"


def test_what_would_let_two_runs_meet_is_dropped() -> None:
    front = {
        "container_name": "front",
        "ports": [{"target": 8000, "published": "80"}],
        "profiles": ["all"],
        "links": ["back:b"],
    }
    model = config(front=front, back={}) | {
        "volumes": {"data": {"name": "data"}, "theirs": {"name": "theirs", "external": True}}
    }
    result = rewritten(model, proxy("front -> back"))

    assert not set(front) & set(result.model["services"]["front"])
    assert result.model["volumes"]["data"]["name"] == "chaos-1_data"
    assert result.model["volumes"]["theirs"] == {"name": "theirs", "external": True}
    assert {network["name"] for network in result.model["networks"].values()} == {
        f"chaos-1_{key}" for key in result.model["networks"]
    }


@pytest.mark.parametrize("interpose", ["all", "faulted"])
def test_the_proxies_ask_nobody_outside_for_a_service_that_is_down(interpose: str) -> None:
    answered = rewritten(SHOP, proxy("front -> back"), answers_names=True, interpose=interpose)
    unanswered = rewritten(SHOP, proxy("front -> back"), interpose=interpose)

    control = IPv4Network(answered.model["networks"][CONTROL]["ipam"]["config"][0]["subnet"])
    assert answered.model["services"][PROXIES]["dns"] == [answered.name_servers[PROXIES]] == [str(first_host(control))]
    assert "timeout:1" in unanswered.model["services"][PROXIES]["dns_opt"]
    assert unanswered.name_servers == {}


def test_the_proxies_soon_give_up_calling_an_address_whose_container_is_gone() -> None:
    result = rewritten(SHOP, proxy("front -> back"))

    assert result.model["services"][PROXIES]["sysctls"] == {"net.ipv4.tcp_syn_retries": "1"}
    assert "sysctls" not in result.model["services"]["front"]


def test_a_link_and_an_alias_lead_to_the_proxy_under_their_names() -> None:
    model = config(front={"links": ["back:b"]}, back={"networks": {"default": {"aliases": ["database"]}}})
    result = rewritten(model, proxy("front -> back"))

    assert result.model["services"][PROXIES]["networks"]["edge-front-back"]["aliases"] == ["b", "back", "database"]


def test_the_edges_of_a_sidecar_are_those_of_the_service_whose_network_it_shares() -> None:
    model = config(front={}, back={}, sidecar={"network_mode": "service:front", "networks": None})
    result = rewritten(model, proxy("sidecar -> back"))

    assert "networks" not in result.model["services"]["sidecar"]
    assert "edge-sidecar-back" in networks_of(result, "front")


def test_a_built_service_has_one_image_for_all_runs_and_none_of_the_users() -> None:
    build = {"context": "/src"}
    model = config(front={"build": build, "image": "own", "pull_policy": "always"}, back={"build": build})
    front, back = (rewritten(model).model["services"][name] for name in ("front", "back"))
    other = rewritten(config(front={"build": {"context": "/elsewhere"}})).model["services"]["front"]

    assert front["image"] == rewritten(model, proxy("front -> back")).model["services"]["front"]["image"]
    assert len({"own", front["image"], back["image"], other["image"]}) == 4
    assert "pull_policy" not in front


def test_what_is_laid_over_an_environment_reaches_the_service_as_it_was_written() -> None:
    model = config(front={"environment": {"A": "1", "B": "$$2"}})
    result = rewritten(model, overrides={"front": {"A": "cost: $5"}})

    assert result.model["services"]["front"]["environment"] == {"A": "cost: $$5", "B": "$$2"}


def test_limits_that_will_be_changed_are_there_from_the_start_so_that_they_can_be_restored() -> None:
    result = rewritten(config(front={"cpus": 1.5}, back={"mem_limit": "64m"}), limited=["front", "back"])
    front, back = result.model["services"]["front"], result.model["services"]["back"]

    assert (front["cpu_quota"], front["cpu_period"]) == (150_000, 100_000)
    assert "cpus" not in front
    assert front["mem_limit"] == front["memswap_limit"]
    assert (back["mem_limit"], back["memswap_limit"], back["cpu_quota"]) == ("64m", "64m", -1)


def test_an_edge_without_a_proxy_keeps_a_network_of_its_own() -> None:
    edge = Edge(name="front -> other", caller="front", callee="other", port=8125)
    result = rewritten(SHOP, proxy("front -> back"), unproxied=[edge])

    assert networks_of(result, "front") & networks_of(result, "other") == {"direct-front-other"}


def test_gently_interposed_callers_keep_their_networks_and_find_the_proxy_in_their_hosts_file() -> None:
    result = rewritten(SHOP, proxy("front -> back"), interpose="faulted")
    front = result.model["services"]["front"]

    assert "default" in networks_of(result, "front")
    assert front["extra_hosts"] == [f"back={made(result, 'front -> back').listen.host}"]
    assert networks_of(result, "other") == {"default"}
    assert "dns_opt" not in front


def test_names_that_run_together_are_kept_apart() -> None:
    model = config(front={}, **{"a": {}, "a-b": {}, "b-c": {}, "c": {}})
    result = rewritten(model, proxy("a -> b-c"), proxy("a-b -> c"))

    assert not networks_of(result, "a") & networks_of(result, "a-b")
    assert result.networks["a -> b-c"] != result.networks["a-b -> c"]


def test_what_is_probed_from_another_machine_has_a_published_proxy_before_it() -> None:
    result = rewritten(SHOP, proxy("front -> back"), probed=["front -> back", "client -> front"])
    detour = made(result, detour_to("front -> back"))

    assert detour.upstream == made(result, "front -> back").listen
    assert detour.name in result.published
    assert detour_to("client -> front") not in result.published


def test_unknown_names_are_asked_for_at_the_hosts_address_on_a_network_of_the_service() -> None:
    result = rewritten(
        config(front={}, back={"dns": ["10.1.1.1"]}, out={}), proxy("front -> back"), answers_names=True, egress=["out"]
    )

    assert result.model["services"]["front"]["dns"] == [result.name_servers["front"]]
    assert any(IPv4Address(result.name_servers["front"]) in subnet for subnet in _subnets(result).values())
    assert result.model["services"]["back"]["dns"] == ["10.1.1.1"]
    assert "dns" not in result.model["services"]["out"]


def test_the_engine_is_told_not_to_count_the_harnesss_own_probes() -> None:
    counting = EngineContainer(image="proxies", command=["serve", IGNORED_SOURCES])
    command = rewritten(SHOP, proxy("front -> back"), engine=counting).model["services"][PROXIES]["command"]
    network = rewritten(SHOP, proxy("front -> back")).networks["front -> back"]

    assert command == ["serve", "--ignore-source", str(network[1]), "--ignore-source", str(network[-2])]


def test_the_token_of_the_engine_is_in_a_file_that_it_alone_has() -> None:
    token = "a-token-with-a-$-in-it"
    engine = EngineContainer(image="proxies", command=["serve"], token=token)
    model = rewritten(SHOP, proxy("front -> back"), engine=engine).model

    assert model["configs"][TOKEN] == {"content": token.replace("$", "$$")}
    assert {"source": TOKEN, "target": TOKEN_FILE} in model["services"][PROXIES]["configs"]
    assert [name for name, service in model["services"].items() if TOKEN in str(service)] == [PROXIES]
    assert "a-token" not in str(model["services"])
    assert "a-token" not in repr(engine)
    assert TOKEN not in str(rewritten(SHOP, proxy("front -> back")).model)


def test_the_embedded_engine_is_told_where_its_token_is(tmp_path: Path) -> None:
    embedded, toxiproxy = (engine_container(engine, tmp_path, "a-token") for engine in ("embedded", "toxiproxy"))

    assert embedded.command[embedded.command.index("--token-file") + 1] == TOKEN_FILE
    assert (embedded.token, toxiproxy.token) == ("a-token", "")


def test_replicas_have_room() -> None:
    result = rewritten(config(front={"deploy": {"replicas": 20}}, back={}), proxy("front -> back"))

    assert result.networks["front -> back"].num_addresses - 4 >= 2 * 20


def test_a_block_that_is_too_small_is_told() -> None:
    with pytest.raises(CouldNotRun, match="room for the networks"):
        rewritten(SHOP, proxy("front -> back"), block=IPv4Network("10.9.0.0/27"))


def test_what_was_handed_in_is_not_changed() -> None:
    before = repr(SHOP)
    rewritten(SHOP, proxy("front -> back"))

    assert repr(SHOP) == before


@given(edges=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] != pair[1]), max_size=60))
def test_in_whatever_system_no_two_services_share_a_network_and_no_two_networks_overlap(edges: set[tuple[int, int]]) -> None:
    model = config(front={}, **{f"s{number}": {} for number in range(12)})
    result = rewritten(model, *(proxy(f"s{one} -> s{other}") for one, other in sorted(edges)))
    subnets = sorted(_subnets(result).values())

    for network in result.model["networks"]:
        members = {name for name in result.model["services"] if network in networks_of(result, name)} - {PROXIES}
        assert len(members) <= 1
    assert not any(one.overlaps(other) for one, other in pairwise(subnets))
    assert len({made.listen for made in result.proxies}) == len(result.proxies)


@given(taken=st.lists(st.integers(0, 4095), max_size=20), seed=st.text(max_size=5))
def test_blocks_are_clear_of_what_is_there(taken: list[int], seed: str) -> None:
    there = [IPv4Network((int(IPv4Address("10.0.0.0")) + place * 4096, 22)) for place in taken]
    block = next(free_blocks(there, seed))

    assert not any(block.overlaps(other) for other in there)


def test_where_all_is_taken_in_one_range_another_is_used_and_in_all_it_is_told() -> None:
    ten = IPv4Network("10.0.0.0/8")

    assert not next(free_blocks([ten], "run")).overlaps(ten)
    with pytest.raises(CouldNotRun, match="free block of addresses"):
        next(free_blocks([IPv4Network("0.0.0.0/0")], "run"))


def test_gently_interposed_networks_are_the_runs_own_whatever_they_were_called() -> None:
    model = SHOP | {"networks": {"default": {"name": "shop_live"}}}
    result = rewritten(model, proxy("front -> back"), interpose="faulted")

    assert result.model["networks"]["default"]["name"] == "chaos-1_default"
