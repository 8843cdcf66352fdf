"""GET /metrics: everything is counted once, under words of closed lists, and nothing in it is secret."""

import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.domain.credential import Credential
from service.sandbox import faults
from service.web.metrics import ACCOUNTS, OUTCOMES, Metrics, Now
from tests.kit import House
from tests.web.expect import problem
from tests.web.home import client_key, home, install
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Series:
    """As Prometheus reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(h: House) -> Series:
    answer = await h.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return read(answer.text)


def of(series: Series, name: str, **labels: str) -> float | None:
    return series.get((f"pixir_auth_{name}", frozenset(labels.items())))


def names(text: str) -> set[str]:
    """Families, as they are declared."""
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


async def everything(h: House) -> str:
    """A house in which each family has a series."""
    await install(h)
    await h.token(newer_than=1)
    h.sandbox.fail_next(faults.refresh_token_reused())
    await install(h, "dead")
    await h.client.get("/token?account=dead&newer_than=1")
    return (await h.client.get("/metrics")).text


async def test_requests_are_counted_by_route_status_and_caller(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        key = await client_key(h, "ci", scope=["token"])
        await h.token()
        for _ in range(3):  # from memory
            await h.token()
        await send(h.app, "GET", "/token", [("Authorization", f"Bearer {key}")])
        await send(h.app, "GET", "/status", [("Authorization", f"Bearer {key}")])
        await send(h.app, "GET", "/token", [("Authorization", "Bearer wrong")])
        await h.client.get("/healthz")
        await h.client.get("/login/sEcReT")
        await h.client.get("/sEcReT")
        await h.client.request("BREW", "/token")
        series = await scraped(h)
    count = "requests_total"
    assert of(series, count, route="GET /token", status="2xx", caller="owner") == 4
    assert of(series, count, route="GET /token", status="2xx", caller="key") == 1
    assert of(series, count, route="GET /status", status="4xx", caller="refused") == 1
    assert of(series, count, route="GET /token", status="4xx", caller="refused") == 1
    assert of(series, count, route="GET /healthz", status="2xx", caller="anybody") == 1
    assert of(series, count, route="GET /login/{login_id}", status="4xx", caller="owner") == 1
    assert of(series, count, route="other", status="4xx", caller="owner") == 2
    assert of(series, "events_total", deed="refused", outcome="scope") == 1
    assert of(series, "events_total", deed="refused", outcome="key_required") == 1
    assert of(series, "events_total", deed="key_added", outcome="done") == 1


async def test_refreshes_and_logins_are_counted_by_outcome_and_timed(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        await h.token(newer_than=1)
        h.clock.advance(6)
        h.sandbox.fail_next(faults.invalid_client())
        await h.client.get("/token?newer_than=2")
        series = await scraped(h)
        assert of(series, "events_total", deed="login", outcome="done") == 1
        assert of(series, "events_total", deed="refresh", outcome="done") == 1
        assert of(series, "events_total", deed="refresh", outcome="issuer_refused") == 1
        assert of(series, "events_total", deed="refresh", outcome="refresh_token_reused") == 0
        assert of(series, "refresh_duration_seconds_count") == 2
        assert of(series, "refresh_failures", account="default") == 1
        assert of(series, "refresh_last_success_timestamp_seconds", account="default") == h.clock.now - 6


async def test_an_account_is_told_as_it_stands(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h, "a")
        h.clock.advance(100)
        await install(h, "b")
        status = (await h.status("a"))["expires_in"]
        series = await scraped(h)
        left = of(series, "token_expires_in_seconds", account="a")
        assert left is not None
        assert int(left) == status
        assert of(series, "token_expires_in_seconds_min") == left
        assert of(series, "accounts") == 2
        h.sandbox.fail_next(faults.refresh_token_reused())
        await h.client.get("/token?account=a&newer_than=1")
        series = await scraped(h)
        assert of(series, "login_required", account="a", reason="refresh_token_reused") == 1
        assert of(series, "events_total", deed="refresh", outcome="refresh_token_reused") == 1
        assert of(series, "token_expires_in_seconds_min") == of(series, "token_expires_in_seconds", account="b")
        await h.client.post("/logout?account=a")
        series = await scraped(h)
        assert of(series, "login_required", account="a", reason="refresh_token_reused") is None
        assert of(series, "accounts") == 1


async def test_a_store_that_is_gone_is_told(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        assert of(await scraped(h), "ready") == 1
        other = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        other.execute("ALTER TABLE credential RENAME TO elsewhere")
        series = await scraped(h)
        other.execute("ALTER TABLE elsewhere RENAME TO credential")
        other.close()
        assert of(series, "ready") == 0
        assert of(series, "token_expires_in_seconds", account="default") is None
        assert of(series, "requests_total", route="GET /metrics", status="2xx", caller="owner") == 1
        assert of(await scraped(h), "ready") == 1


async def test_a_hundred_accounts_have_series_and_the_rest_are_in_the_minimum(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        (one,) = await h.app.services.broker.credentials(9)
    many = [_named(one, f"a{number:03}", one.expires_at - number) for number in range(ACCOUNTS + 50)]
    series = read(Metrics().text(Now(is_ready=True, credentials=many, at=one.obtained_at)).decode())
    told = [labels for name, labels in series if name == "pixir_auth_token_expires_in_seconds"]
    assert len(told) == ACCOUNTS
    assert of(series, "accounts") == ACCOUNTS + 50
    assert of(series, "token_expires_in_seconds_min") == one.expires_at - ACCOUNTS - 49 - one.obtained_at


def _named(credential: Credential, account: str, expires_at: float) -> Credential:
    return replace(credential, account=account, expires_at=expires_at)


async def test_no_word_of_others_becomes_a_label() -> None:
    counts = Metrics()
    for number in range(500):
        counts.happened("refresh", f"chosen_by_the_issuer_{number}")
        counts.happened("refresh", f"issuer_refused: {number}")
        counts.asked(f"GET /{number}", 404, "owner")
        counts.asked(f"METHOD{number} /token", 405, "owner")
    series = read(counts.text(Now(is_ready=True, credentials=(), at=0)).decode())
    assert of(series, "events_total", deed="refresh", outcome="other") == 500
    assert of(series, "events_total", deed="refresh", outcome="issuer_refused") == 500
    assert of(series, "requests_total", route="other", status="4xx", caller="owner") == 1000
    assert len(series) < 60
    assert {dict(labels)["outcome"] for _, labels in series if "outcome" in dict(labels)} <= OUTCOMES | {"other"}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "0.1"), (0.1, "0.1"), (0.11, "0.25"), (30.0, "30.0"), (31, "+Inf")]
)
async def test_a_duration_is_in_the_first_bucket_that_holds_it(seconds: float, bucket: str) -> None:
    counts = Metrics()
    counts.happened("refresh", "done", seconds)
    series = read(counts.text(Now(is_ready=True, credentials=(), at=0)).decode())
    holds = [dict(labels)["le"] for (name, labels), value in series.items() if name.endswith("_bucket") and value]
    assert min(holds, key=float) == bucket
    assert of(series, "refresh_duration_seconds_sum") == seconds


async def test_nothing_in_it_is_secret(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY="sk-environment-secret") as h:
        tokens = await install(h)
        text = await everything(h)
        status = await h.status()
        for secret in (
            *(str(tokens[name]) for name in ("access_token", "refresh_token", "id_token")),
            "sk-environment",
        ):
            assert secret not in text
        assert status["email"] not in text
        assert status["account_id"] not in text
        assert "@" not in text


async def test_a_key_of_some_accounts_is_refused(h: House) -> None:
    key = await client_key(h, "some", scope=["status"], accounts=["work"])
    problem(await send(h.app, "GET", "/metrics", [("Authorization", f"Bearer {key}")]), 403, "scope")


async def test_two_applications_count_for_themselves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with home(tmp_path / "a") as one, home(tmp_path / "b") as other:
        await one.client.get("/healthz")
        series = await scraped(other)
        assert of(series, "requests_total", route="GET /healthz", status="2xx", caller="anybody") is None


# what is written about it


async def test_every_metric_is_documented_and_no_other(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        text = await everything(h)
    rows = re.findall(r"^\| `(pixir_auth_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(names(text))


async def test_every_alert_is_about_metrics_and_words_that_there_are(tmp_path: Path) -> None:
    rules = (ROOT / "deploy" / "alerts.yaml").read_text()
    async with home(tmp_path) as h:
        series = read(await everything(h))
    asked = re.findall(r"(pixir_auth_\w+)(?:\{([^}]*)\})?", rules)
    assert len(asked) >= 6
    for name, matchers in asked:
        wanted = set(re.findall(r'(\w+)="(\w+)"', matchers))
        assert any(told == name and wanted <= labels for told, labels in series), (name, matchers)
