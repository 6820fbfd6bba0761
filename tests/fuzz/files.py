"""Files that a person wrote: scenario, system and Compose file; and what Compose says of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import yaml

from harness.errors import InvalidFile
from harness.history.lines import object_in
from harness.model.compose import Compose
from harness.model.compose_config import compose_from_config
from harness.model.compose_reading import read_compose
from harness.model.origins import origins_of
from harness.model.resolving import Resolved, resolve
from harness.model.runnable import check_runs_in_containers, check_runs_locally
from harness.plan.planning import plan_of, plan_to_json
from harness.plan.text import explanation, plan_text
from tests.fuzz.mutating import json_of, yaml_of
from tests.fuzz.trying import Kind, Reader
from tests.systems import SCENARIO, SYSTEM, write_system

RICH_SCENARIO = """\
version: 1
question: Does a hanging shipping stay shipping's problem?
owner: team-checkout
tags: [nightly]
system: .
seed: 7
load: {rate: [{to: 20/s, over: 5s}, {hold: 90s}], max_users: 480, arrivals: uniform, classes: [HttpUser], allow_hosts: [auth.example.org]}
phases: {warmup: 5s, baseline: 20s, fault: 20s, recovery: 20s, drain: 15s}
rounds: 2
steady_state:
  - error_rate: {max: 1%}
faults:
  - id: cut
    outage: {edge: order -> shipping, mode: hang}
  - latency: {edge: gateway -> order, latency: 300ms, jitter: 50ms}
    at: 5s
    for: 10s
  - http_error: {service: shipping, status: 503, share: 50%}
    for: 4s
    repeat: {every: 6s, times: 2}
  - bandwidth: {edge: order -> postgres, rate: 20KB/s}
    ramp: {over: 5s, from: 1MB/s}
  - flaky: {edge: order -> redis, share: 30%, mean: 2s, mode: reset}
  - partition: {between: [[order], [redis, shipping]], direction: both}
  - memory: {service: order, limit: 64MB}
    for: 5s
expect:
  - id: contained
    blast_radius: {may_degrade: [place order], may_fail: [browse], worse_by: {error_rate: 5%, p95: 100% or 100ms}}
  - fallback: {name: shipping-deferred, fault: cut, share: {min: 90%}}
  - response_time: {journey: place order, during: cut, p95: {max: 4s}}
  - recovery: {within: 10s, hold: 5s}
  - invariant: every order is shipped
known:
  - {expect: contained, ticket: SHOP-7, until: 2027-01-31}
defects:
  silent_fallback: {environment: {order: {DEFECTS: silent_fallback}}, caught_by: contained}
stop_when:
  - error_rate: {max: 60%, sustained: 5s}
  - id: orders-hang
    response_time: {journey: place order, during: cut, p95: {max: 4s}, p99: {max: 5s}}
"""

RICH_SYSTEM = SYSTEM + "egress: [order]\nlimits: {services_down: 5, edges: 9}\n"

RICH_COMPOSE = """\
name: shop
services:
  gateway:
    image: gateway
    environment:
      ORDER_URL: http://order:8000
      MODE: ${MODE:-quiet}
    ports: ["8000:8000", {target: 9000, published: "9001"}]
    depends_on: {order: {condition: service_healthy}}
  order: &order
    image: order
    environment:
      - DATABASE_URL=postgresql://order:secret@postgres/orders
      - SHIPPING_URL=http://shipping:8000
      - REDIS_HOST=redis
    expose: ["8000"]
    restart: on-failure:3
    healthcheck: {test: [CMD, curl, localhost], interval: 1s, timeout: 2s, retries: 3, start_period: 1m}
  shipping:
    <<: *order
    environment: {QUEUE: "redis:6379"}
  postgres:
    image: postgres
    expose: ["5432"]
    env_file: [{path: variables.env, required: false}]
  redis:
    image: redis
    expose: ["6379/tcp"]
"""

CONFIG = {
    "name": "shop",
    "services": {
        "gateway": {
            "environment": {"ORDER_URL": "http://order:8000", "EMPTY": None},
            "ports": [{"mode": "ingress", "target": 8000, "protocol": "tcp"}],
            "depends_on": {"order": {"condition": "service_healthy", "required": True}},
            "networks": {"default": {"aliases": ["front"], "ipv4_address": "10.0.0.5"}},
        },
        "order": {
            "environment": {"DATABASE_URL": "postgresql://order:$$ecret@postgres/orders"},
            "expose": ["8000", "9000-9003/tcp"],
            "healthcheck": {"test": ["CMD", "curl"], "interval": "1m30s", "retries": 3},
            "links": ["postgres:db"],
            "extra_hosts": ["a=1.2.3.4", "b:::1"],
            "deploy": {"replicas": 2},
            "command": ["serve"],
        },
        "shipping": {"environment": {"QUEUE": "redis:6379"}, "expose": ["8000"]},
        "redis": {"expose": ["6379"], "scale": 1, "dns": "1.1.1.1"},
        "postgres": {"expose": ["5432"]},
        "aside": {"network_mode": "service:order", "environment": {"SHIPPING_URL": "http://shipping:8000"}},
    },
    "networks": {"default": {"external": False}},
    "volumes": {"data": {"external": True}},
}


def planned(resolved: Resolved) -> None:
    """Everything that a command does with files before anything is started."""
    for check in (check_runs_in_containers, check_runs_locally):
        try:
            checked = check(resolved)
        except InvalidFile:
            continue
        plan = plan_of(checked.experiment, checked.queries)
        plan_to_json(plan).encode()
        plan_text(plan).encode()
        explanation(plan, origins_of(checked.experiment, *checked.documents)).encode()


def _folder(folder: Path) -> Path:
    scenario = write_system(folder)
    (folder / "variables.env").write_text("A=1\nexport B='2' # two\n", encoding="utf-8")
    return scenario


def read_once(folder: Path) -> Callable[[object, object], Compose]:
    """A Compose file that is as it should be: to read it again and again would take most of the time."""
    compose, _ = read_compose([folder / "compose.yaml"], {})
    return lambda _files, _environ: compose


def scenarios(folder: Path) -> Reader:
    scenario = _folder(folder)
    compose_of = read_once(folder)
    valid = [(text, yaml.safe_load(text)) for text in (SCENARIO, RICH_SCENARIO)]

    def read(random: Random) -> None:
        scenario.write_bytes(yaml_of(random, *random.choice(valid)))
        planned(resolve(scenario, environ={}, compose_of=compose_of))

    return read


def systems(folder: Path) -> Reader:
    scenario = _folder(folder)
    compose_of = read_once(folder)
    valid = yaml.safe_load(RICH_SYSTEM)

    def read(random: Random) -> None:
        (folder / "system.yaml").write_bytes(yaml_of(random, RICH_SYSTEM, valid))
        planned(resolve(scenario, environ={}, compose_of=compose_of))

    return read


def compose_files(folder: Path) -> Reader:
    scenario = _folder(folder)
    valid = yaml.safe_load(RICH_COMPOSE)

    def read(random: Random) -> None:
        (folder / "compose.yaml").write_bytes(yaml_of(random, RICH_COMPOSE, valid))
        planned(resolve(scenario, environ={"MODE": "loud"}))

    return read


def compose_answers(folder: Path) -> Reader:
    scenario = _folder(folder)

    def read(random: Random) -> None:
        config = object_in(json_of(random, CONFIG))
        if config is None:
            return
        planned(resolve(scenario, environ={}, compose_of=lambda _files, _environ: compose_from_config(config)))

    return read


FILES = (
    Kind("scenario", scenarios),
    Kind("system.yaml", systems),
    Kind("compose file", compose_files),
    Kind("compose config", compose_answers),
)
