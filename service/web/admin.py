"""The routes of whoever runs the service: client keys, the audit trail, another encryption key, backups, exports."""

import asyncio
import base64
import os
from collections import Counter
from typing import IO, Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.types import Receive, Scope, Send

from service.domain.backup import Batch, Outcome
from service.domain.caller import ClientKey
from service.domain.errors import InvalidRequest
from service.sealing import Recipient
from service.web import answers
from service.web.schemas import (
    AccountQuery,
    AuditAnswer,
    AuditQuery,
    ConfirmExportBody,
    ExportAnswer,
    ExportBody,
    KeyAnswer,
    KeyBody,
    KeysAnswer,
    Name,
    NoBody,
    RekeyAnswer,
    RestoreAnswer,
    RestoreBody,
    StatusAnswer,
)
from service.web.services import EACH_ONCE, caller_of, noted, see_account, services_of

router = APIRouter(tags=["admin"], dependencies=[EACH_ONCE])

_LINES: Final = "application/jsonl"
_BACKUP: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {_LINES: {"schema": {"type": "string"}}}}}

_PIECE: Final = 64 * 1024
"""Bytes of a backup that are in memory at a time."""


@router.get("/keys")
async def keys(request: Request) -> KeysAnswer:
    """All client keys: what they are for, and when they were last used."""
    services = services_of(request)
    now = services.seams.now()
    return KeysAnswer(
        keys=[answers.client_key(key, now, is_first=services.keys.is_first(key)) for key in await services.keys.all()]
    )


@router.put("/keys/{name}", status_code=201)
async def add_key(request: Request, name: Name, body: KeyBody) -> KeyAnswer:
    """Let a client key in. Whoever makes it keeps it: only its digest is sent here."""
    services = services_of(request)
    now = services.seams.now()
    key = ClientKey(
        name=name,
        digest=body.digest,
        rights=body.scope,
        accounts=body.accounts,
        created_at=now,
        expires_at=None if body.expires_in is None else now + body.expires_in,
    )
    with noted(request, "key_added", detail=name):
        await services.keys.add(key)
    return answers.client_key(key, now, is_first=False)


@router.delete("/keys/{name}", status_code=204, response_class=Response)
async def revoke_key(request: Request, name: Name) -> Response:
    """Revoke a client key: whoever asks with it from now on is refused, everywhere."""
    with noted(request, "key_revoked", detail=name):
        await services_of(request).keys.revoke(name)
    return Response(status_code=204)


@router.get("/audit")
async def audit(request: Request, query: Annotated[AuditQuery, Query()]) -> AuditAnswer:
    """Who did what, newest first."""
    found = await services_of(request).trail.events(query.before, query.limit + 1)
    page = [answers.audit_entry(event) for event in found[: query.limit]]
    return AuditAnswer(entries=page, next=page[-1].number if len(found) > query.limit else None)


@router.post("/rekey")
async def rekey(request: Request, body: NoBody | None = None) -> RekeyAnswer:  # noqa: ARG001 - it has nothing to say
    """Go over to another encryption key, while everything runs."""
    with noted(request, "rekey"):
        resealed = await services_of(request).store.rekey()
    return RekeyAnswer(resealed=resealed)


@router.post("/export")
async def export(request: Request, query: Annotated[AccountQuery, Query()], body: ExportBody) -> ExportAnswer:
    """Give a login away with its refresh token, sealed for whoever asks: nobody here refreshes or serves it any more.

    It may be asked for again until it is confirmed, or somebody logs in.
    """
    see_account(request, query.account)
    with noted(request, "export", account=query.account) as words:
        recipient = _recipient(body.public_key)
        given = await services_of(request).releases.release(query.account)
        if given.again:
            words.append("again")
        sealed = recipient.seal(answers.handed_over(given.credential), query.account)
    return ExportAnswer(account=query.account, generation=given.credential.generation, again=given.again, sealed=sealed)


@router.post("/export/confirm", status_code=204, response_class=Response)
async def confirm_export(
    request: Request, query: Annotated[AccountQuery, Query()], body: ConfirmExportBody
) -> Response:
    """Say that an export has arrived: the sealed copy that is kept of it is erased. May be said again."""
    see_account(request, query.account)
    with noted(request, "export", account=query.account, detail="confirmed"):
        await services_of(request).releases.confirm(query.account, body.generation)
    return Response(status_code=204)


@router.get("/backup", response_class=Response, responses=_BACKUP)
async def backup(request: Request) -> Response:
    """All accounts and client keys in one state, sealed as they are stored, as lines of JSON."""
    with noted(request, "backup"):
        file = await services_of(request).store.backup()
    return _Lines(file)


@router.post("/restore")
async def restore(request: Request, body: RestoreBody) -> RestoreAnswer:
    """Put rows of a backup back. Those logins are not refreshed until somebody confirms that nobody has since."""
    services = services_of(request)
    batch = Batch(
        fingerprints=_bytes(body.fingerprints),
        credentials=[each.line for each in body.credentials],
        client_keys=[each.line for each in body.client_keys],
        replace=body.replace,
    )
    with noted(request, "restore") as words:
        credentials, client_keys = await services.store.restore(batch)
        words += [*_counted("accounts", credentials), *_counted("client keys", client_keys)]
    for line, outcome in zip(batch.client_keys, client_keys, strict=True):
        if outcome == "restored":  # proven by now: the name is one that we gave
            services.trail.note("key_added", caller_of(request).name, detail=str(line.row["name"]))
    return RestoreAnswer(credentials=credentials, client_keys=client_keys)


@router.post("/restore/confirm")
async def confirm(
    request: Request,
    query: Annotated[AccountQuery, Query()],
    body: NoBody | None = None,  # noqa: ARG001
) -> StatusAnswer:
    """Say that a restored login was not refreshed after its backup, by anybody: it is refreshed from now on."""
    services = services_of(request)
    with noted(request, "restore", account=query.account, detail="confirmed"):
        await services.store.confirm_unspent(query.account, services.seams.token_bytes(16).hex())
    standing = await services.broker.standing(query.account)
    return answers.status(standing, services.seams.now(), services.policies)


class _Lines(Response):
    """A file that is closed however the answer ends, also when nobody takes it."""

    media_type = _LINES

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.headers["content-length"] = str(file.seek(0, os.SEEK_END))
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        with self._file as file:
            file.seek(0)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece := await asyncio.to_thread(file.read, _PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _recipient(public_key: str) -> Recipient:
    try:
        return Recipient(public_key)
    except ValueError:
        raise InvalidRequest("public_key is no X25519 public key.") from None


def _counted(what: str, outcomes: list[Outcome]) -> list[str]:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes).items()))
    return [f"{what}: {counts}"] if counts else []


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""  # it opens with no key
