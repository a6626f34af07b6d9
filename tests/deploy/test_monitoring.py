"""Dashboard, alerts and adapter: every expression parses and uses metrics of /metrics."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.serving.served_model import ModelState
from service.settings import Settings
from tests.deploy.manifests import DEPLOY, ROOT, read_yaml
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio

# What scraping adds.
SCRAPED = {"job", "instance", "namespace", "pod"}
SUFFIXES = ("_bucket", "_sum", "_count", "_total")


@dataclass(frozen=True)
class Known:
    """What may be asked for."""

    labels: dict[str, set[str]]  # family -> its labels

    def family_of(self, name: str) -> str:
        for suffix in SUFFIXES:
            if name.removesuffix(suffix) in self.labels:
                return name.removesuffix(suffix)
        return name


@pytest.fixture
async def known(serving: Serving) -> Known:
    """The families and labels of a service that has answered a few requests."""
    async with serving(fake_registry(Settings(), "en-de"), Settings()) as client:
        body = {"source": "en", "target": "de", "text": ["one two three", "ABC"]}  # one is copied
        assert (await client.post("/v1/translate", json=body)).status_code == 200
        assert (await client.post("/v1/translate", json={})).status_code == 422
        metrics_text = (await client.get("/metrics")).text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics_text):
        if family.name.endswith("_created"):  # the client library's own, beside every counter
            continue
        found = {label for sample in family.samples for label in sample.labels} - {"le"}
        labels[family.name] = labels.get(family.name, set()) | found
    return Known(labels)


def dashboard_expressions() -> Iterator[str]:
    board = json.loads((DEPLOY / "grafana/dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            # What Grafana puts in before it asks.
            expression = target["expr"].replace("$__rate_interval", "1m")
            yield re.sub(r"\$(job|model)", ".*", expression)


def alert_expressions() -> Iterator[str]:
    for group in read_yaml("prometheus/alerts.yaml")["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def adapter_expressions() -> Iterator[str]:
    for rule in read_yaml("prometheus/adapter.yaml")["rules"]["custom"]:
        yield rule["seriesQuery"]
        yield (
            rule["metricsQuery"]
            .replace("<<.Series>>", rule["name"]["matches"])
            .replace("<<.LabelMatchers>>", 'namespace="a",pod=~"b|c"')
            .replace("<<.GroupBy>>", "pod")
        )


EXPRESSIONS = [*dashboard_expressions(), *alert_expressions(), *adapter_expressions()]


@pytest.mark.parametrize("expression", EXPRESSIONS)
async def test_dashboards_and_alerts_use_existing_metrics_and_labels(
    expression: str, known: Known
) -> None:
    selectors = selectors_of(promql_parser.parse(expression))
    assert selectors
    for name, matched, grouped in selectors:
        if name == "up":  # Prometheus' own
            continue
        family = known.family_of(name)
        assert family in known.labels, f"{name} is no metric of the service"
        may = known.labels[family] | SCRAPED | ({"le"} if name.endswith("_bucket") else set())
        assert matched | grouped <= may, f"{name} has no such label"


def selectors_of(
    expression: promql_parser.Expr, grouped: frozenset[str] = frozenset()
) -> list[tuple[str, set[str], frozenset[str]]]:
    """(metric, labels it is chosen by, labels it is grouped by) of everything that is read."""
    match expression:
        case promql_parser.VectorSelector():
            matched = {matcher.name for matcher in expression.matchers.matchers}
            return [(expression.name or "", matched, grouped)]
        case promql_parser.MatrixSelector():
            return selectors_of(expression.vector_selector, grouped)
        case promql_parser.AggregateExpr():
            labels = expression.modifier.labels if expression.modifier else []
            return selectors_of(expression.expr, grouped | set(labels))
        case promql_parser.BinaryExpr():
            return [
                *selectors_of(expression.lhs, grouped),
                *selectors_of(expression.rhs, grouped),
            ]
        case promql_parser.Call():
            return [found for each in expression.args for found in selectors_of(each, grouped)]
        case promql_parser.ParenExpr():
            return selectors_of(expression.expr, grouped)
        case promql_parser.NumberLiteral():
            return []
    raise AssertionError(f"{type(expression).__name__} is unknown to this test")


async def test_expressions_know_the_states_of_a_model() -> None:
    states = {
        state
        for expression in EXPRESSIONS
        for state in re.findall(r'\bstate(?:!?=)"(\w+)"', expression)
    }
    assert states <= set(ModelState)


async def test_the_dashboard_shows_every_metric(known: Known) -> None:
    shown = {
        known.family_of(name)
        for expression in dashboard_expressions()
        for name, _, _ in selectors_of(promql_parser.parse(expression))
    }
    assert shown >= {family for family in known.labels if family.startswith("dragoman_")}


async def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    board = json.loads((DEPLOY / "grafana/dashboard.json").read_text(encoding="utf-8"))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not taken & cells
        taken |= cells


async def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in read_yaml("prometheus/alerts.yaml")["groups"]:
        for rule in group["rules"]:
            assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert {"summary", "description"} == rule["annotations"].keys()


async def test_the_docs_list_every_metric_with_its_labels(known: Known) -> None:
    text = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(dragoman_\w+?)(?:_total)?` \| ([^|]*) \|", text, re.MULTILINE)
    listed = {name: set(labels.split(", ")) - {"none"} for name, labels in rows}
    assert listed == {
        family: labels for family, labels in known.labels.items() if family.startswith("dragoman_")
    }
