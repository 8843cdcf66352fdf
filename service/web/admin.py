"""The routes of whoever runs the service: client keys, the audit trail, another encryption key."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.domain.caller import ClientKey
from service.web import answers
from service.web.schemas import AuditAnswer, AuditQuery, KeyAnswer, KeyBody, KeysAnswer, Name, NoBody, RekeyAnswer
from service.web.services import noted, services_of

router = APIRouter(tags=["admin"])


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
