"""docker/, without a Docker engine: each path, variable, port and metric that it names is there."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import callbacks.metrics
import indexer.chains.metrics
import indexer.metrics
from indexer import config

ROOT: Final = Path(__file__).parents[1]
DOCKER: Final = ROOT / "docker"
DASHBOARD: Final = DOCKER / "grafana/dashboards/depositd.json"
ALERTS: Final = DOCKER / "alerts.yml"
FILLED: Final = "a-secret-that-somebody-filled-in"
VARIABLE: Final = re.compile(r"\$\{(\w+)(:[?-])?([^}]*)\}")
# What every metric is told by, whose process it is: Prometheus' own and the Python client's.
FOREIGN: Final = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
PARTS: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
OURS: Final = (callbacks.metrics, indexer.chains.metrics, indexer.metrics)


def load(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


COMPOSE: Final = load("compose.yaml")
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]


def filled(text: str) -> str:
    """With the variables that docker/.env and the caller give."""
    return VARIABLE.sub(lambda v: v[3] if v[2] == ":-" else FILLED, text)


def copied(dockerfile: Path) -> Iterator[str]:
    for line in dockerfile.read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            yield from line.split()[1:-1]


def test_each_service_is_built_or_pinned_and_each_file_it_mounts_is_there() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file(), name
        else:
            image, _, tag = service["image"].partition(":")
            assert re.search(r"\d", tag), f"{image} is not pinned"
        for volume in service.get("volumes", ()):
            source, target, *_ = filled(volume).split(":")
            if source.startswith("."):
                assert (DOCKER / source).exists(), volume
                assert volume.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]
            assert target.startswith("/")
        for other in service.get("depends_on", ()):
            assert other in SERVICES


@pytest.mark.parametrize("dockerfile", sorted(DOCKER.glob("*Dockerfile")), ids=lambda p: p.name)
def test_an_image_takes_what_there_is_and_runs_without_rights(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    allowed = ignored.read_text(encoding="utf-8").split() if ignored.exists() else []
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed, f"{ignored.name} keeps {source} out"
    assert "://" not in text.replace("http://127.0.0.1:8080", "")
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")


def test_depositd_s_image_is_checked_where_it_listens_and_starts_as_the_compose_file_mounts() -> (
    None
):
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert "http://127.0.0.1:8080/healthz" in text
    depositd = SERVICES["depositd"]
    assert depositd["environment"]["DEPOSITD_API__LISTEN"] == "0.0.0.0:8080"
    [settings] = depositd["volumes"]
    assert filled(settings).split(":")[1] in text
    assert depositd["read_only"]


def test_nothing_is_reachable_from_outside_and_nothing_has_a_known_password() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), port
    for test_node in ("litecoind", "anvil"):
        assert SERVICES[test_node]["networks"] == ["inside"]
        assert SERVICES[test_node]["profiles"] == ["test-nodes"]
    assert COMPOSE["networks"]["inside"]["internal"]
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    needed = {name for name, how, _ in VARIABLE.findall(text) if how == ":?"}
    given = dict(
        line.split("=", 1)
        for line in (DOCKER / "example.env").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert given == dict.fromkeys(needed, "")
    assert {name for name, _, _ in VARIABLE.findall(text)} == needed | {"SETTINGS"}


@pytest.mark.parametrize("name", ["depositd.toml", "test-nodes.toml"])
def test_depositd_takes_its_settings_and_every_variable(name: str) -> None:
    environ = {n: filled(v) for n, v in SERVICES["depositd"]["environment"].items()}
    settings = config.load(DOCKER / name, environ)
    assert settings.warnings == ()
    assert settings.database == f"postgresql://depositd:{FILLED}@postgres/depositd"
    hosts = {
        re.sub(r".*[@/]([a-z]+):\d+$", r"\1", endpoint.url)
        for network in settings.networks.values()
        for endpoint in network.endpoints
    }
    assert hosts <= SERVICES.keys()


def test_prometheus_asks_where_depositd_listens_and_reads_the_rules() -> None:
    settings = load("prometheus.yml")
    mounts = {filled(v).split(":")[1] for v in SERVICES["prometheus"]["volumes"]}
    for rules in settings["rule_files"]:
        assert f"/etc/prometheus/{rules}" in mounts
    [job] = settings["scrape_configs"]
    assert job["job_name"] == "depositd"
    assert job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [{"targets": ["depositd:8080"]}]
    [source] = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = load("grafana/provisioning/dashboards/depositd.yml")["providers"]
    assert any(provider["options"]["path"] in v for v in SERVICES["grafana"]["volumes"])


def expressions() -> Iterator[str]:
    """Of the alerts and of the dashboard."""
    for group in load("alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert rule["annotations"]["summary"]
            yield rule["expr"]
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            assert panel["datasource"]["uid"] == "prometheus"
            yield target["expr"]
    for variable in board["templating"]["list"]:
        yield variable["query"]


def named(expression: str) -> set[str]:
    """The metrics in an expression: not what stands in braces, brackets or after `by`."""
    bare = re.sub(
        r"\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)|label_values\(|, network\)", " ", expression
    )
    words = set(re.findall(r"[a-z_]{2,}(?![a-z_]*\s*\()", bare))
    return words - {"and", "by", "on", "unless"}


def family(name: str) -> str:
    """A sample's metric."""
    return re.sub("_(total|bucket|count|sum)$", "", name)


def told() -> dict[str, set[str]]:
    """The samples that our processes tell, by name, with their labels."""
    found = {}
    ours = [m for module in OURS for m in vars(module).values() if hasattr(m, "_labelnames")]
    for metric in ours:
        for part in PARTS.get(metric._type, ("",)):
            labels = {*metric._labelnames} | ({"le"} if part == "_bucket" else set())
            found[metric._name + part] = labels
    return found


def test_every_metric_and_label_that_alerts_and_dashboard_name_is_told() -> None:
    known = told()
    seen = set()
    for expression in expressions():
        assert expression.count("(") == expression.count(")"), expression
        names = named(expression)
        assert names, expression
        assert names <= known.keys() | FOREIGN, expression
        seen |= names
        for name, filters in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)(?:=~|!=|=)", filters))
            assert labels <= known.get(name, set()) | {"job"}, expression
        grouped = {
            label.strip()
            for labels in re.findall(r"\bby \(([^)]*)\)", expression)
            for label in labels.split(",")
        }
        assert grouped <= set().union(*(known.get(name, set()) for name in names)), expression
    shown = {family(name) for name in seen}
    unshown = {family(name) for name in known} - shown
    assert unshown <= {"depositd_delivery_outcomes_refused"}  # of use in a bug report only


def pins(lock: Path) -> dict[str, str]:
    return dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    )


def test_the_image_has_the_pinned_versions_of_what_depositd_needs_and_no_more() -> None:
    image, everything = pins(DOCKER / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert image.items() <= everything.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=;\[ ]", each)[0].lower() for each in requirements}

    needed = names(project["dependencies"])
    assert needed <= image.keys()
    assert not image.keys() & (
        names(project["optional-dependencies"]["dev"]) - needed - {"setuptools"}
    )
