"""Every line that is logged while a request is answered carries its id, and no other line does."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from contextvars import Context

import pytest

from service.logs import _Json, _Text
from service.sandbox import faults
from tests.kit import House
from tests.web.home import install
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def text() -> Iterator[io.StringIO]:
    yield from _written(_Text())


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    yield from _written(_Json())


def _written(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    log = logging.getLogger("service")
    log.addHandler(handler)
    before = log.level
    log.setLevel("DEBUG")
    yield written
    log.setLevel(before)
    log.removeHandler(handler)


async def asked(h: House, target: str, *headers: tuple[str, str]) -> None:
    """As a server asks: in a task and a context of its own."""
    await asyncio.get_running_loop().create_task(send(h.app, "GET", target, headers), context=Context())


async def test_the_lines_of_a_request_have_one_id_and_those_of_another_another(
    h: House, account: str, lines: io.StringIO
) -> None:
    await install(h, account)
    lines.truncate(0)
    h.sandbox.fail_next(faults.server_error())
    await asyncio.gather(asked(h, f"/token?account={account}&newer_than=1"), asked(h, "/status"))
    logged = [json.loads(line) for line in lines.getvalue().strip("\0").splitlines()]
    by_call = {each["message"].split()[1]: each["request_id"] for each in logged if each["logger"] == "service.access"}
    assert by_call["/token"] != by_call["/status"]
    assert all(re.fullmatch(r"[0-9a-f]{8}", one) for one in by_call.values())
    refresh = [each for each in logged if each["logger"] == "service.broker.refresher"]
    assert refresh
    assert {each["request_id"] for each in refresh} == {by_call["/token"]}, "what the request has begun"


async def test_it_is_in_brackets_in_text_and_in_every_way_of_answering(h: House, text: io.StringIO) -> None:
    for target in ("/status", "/nowhere", "/token"):
        await asked(h, target)
    await asked(h, "/token", ("Authorization", "Bearer wrong"))
    found = re.findall(r" service\.access \[([0-9a-f]{8})\]: GET ", text.getvalue())
    assert len(set(found)) == 4


async def test_a_line_of_no_request_has_none(text: io.StringIO, lines: io.StringIO) -> None:
    Context().run(logging.getLogger("service.background").warning, "a round")
    assert "service.background: a round" in text.getvalue()
    assert "request_id" not in json.loads(lines.getvalue())


async def test_an_id_that_is_sent_is_not_taken_over(h: House, lines: io.StringIO) -> None:
    await asked(h, "/status", ("X-Request-ID", "feedbeef"), ("Traceparent", "00-feedbeef"))
    assert "GET /status" in lines.getvalue()
    assert "feedbeef" not in lines.getvalue()
