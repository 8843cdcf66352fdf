"""The routes: parse, one broker call, shape. Everything else has been decided before or is decided elsewhere."""

from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, FastAPI, Query, Request, Response
from starlette.types import Lifespan

from service import __version__
from service.domain.errors import AuthError, LoginMismatch, StoreUnavailable
from service.domain.login import Login
from service.domain.secret import Secret
from service.oauth.callback import read_callback, read_pasted
from service.oauth.pkce import b64url
from service.web import admin, answers, front, pages
from service.web.browsers import LOOPBACK, at_localhost, is_at, is_window, see_other, wants_page
from service.web.callers import call_of
from service.web.ends import COOKIE, SHOWN_FOR, End
from service.web.failures import add_handlers
from service.web.guard import asker_of
from service.web.metrics import LOOKED_AT, Now
from service.web.metrics import MEDIA_TYPE as METRICS_TYPE
from service.web.oauth import TOKEN_ENDPOINT
from service.web.problems import STATUS
from service.web.proxies import FORWARD_AUTH
from service.web.schemas import (
    AccountQuery,
    AccountsAnswer,
    AccountsQuery,
    CredentialBody,
    Health,
    InstalledAnswer,
    LoggedOutAnswer,
    LoginAnswer,
    LoginBody,
    LoginQuery,
    NoBody,
    PastedBody,
    RefreshBody,
    RefreshedAnswer,
    StatusAnswer,
    TokenAnswer,
    TokenQuery,
    WaitQuery,
)
from service.web.services import (
    EACH_ONCE,
    Services,
    caller_of,
    noted,
    see_account,
    seen_login,
    seen_standings,
    services_of,
)

_COOKIE: Final = "pixir_auth_login_"
"""Begins the name of the cookie that binds a login to the browser that started it; the login's id ends it."""

CALLBACK_PATH: Final = "/auth/callback"
"""Where issuers send browsers back to; the cookie goes nowhere else."""

_TEXT: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_TOLD: Final = {"schema": {"type": "string"}}
_FOR_A_PROXY: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {"Authorization": _TOLD, "ChatGPT-Account-ID": _TOLD}}
}
_REFRESH: Final = {"schema": RefreshBody.model_json_schema()}
_FORM_OR_JSON: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": _REFRESH, "application/x-www-form-urlencoded": _REFRESH},
    }
}
_HTML: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}


def build_api(services: Services | None = None, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The FastAPI application; without services it can only tell its OpenAPI document."""
    api = FastAPI(
        title="pixir-auth",
        version=__version__,
        summary="The one owner of a machine's OAuth logins.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # those pages load scripts from elsewhere, and this origin holds tokens
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
        routes=[route for each in ROUTERS for route in each.routes],  # `include_router` would build each anew, per app
    )
    api.state.services = services
    add_handlers(api, services.public_url if services else "", ROUTERS)
    return api


router = APIRouter(dependencies=[EACH_ONCE])

open_router = APIRouter()
"""What `callers.OPEN` lets everybody ask; what came back to /callback more than once, that route judges by itself."""

ROUTERS: Final = (router, open_router, admin.router, front.router)

Account = Annotated[AccountQuery, Query()]


@router.post("/login", status_code=201, response_model=LoginAnswer, tags=["login"])
async def start_login(request: Request, query: Account, body: LoginBody | None = None) -> Response:
    """Start a login. Never blocks: poll the Location for how it stands. The account may stand in the query too."""
    wanted = body or LoginBody()
    if "account" not in wanted.model_fields_set:
        wanted = wanted.model_copy(update={"account": query.account})
    services = services_of(request)
    see_account(request, wanted.account)
    with noted(request, "login_started", account=wanted.account):
        login = await services.logins.start(wanted.account, wanted.provider, wanted.flow, replace=wanted.replace)
    return _started(services, login)


@router.get(
    "/login",
    status_code=201,
    response_model=LoginAnswer,
    responses={**_HTML, 303: {"description": "A browser goes on to the issuer"}},
    tags=["login"],
)
async def open_login(request: Request, query: Annotated[LoginQuery, Query()]) -> Response:
    """Start a login: a browser is led to the issuer or shown a code, anything else gets what POST gives."""
    services = services_of(request)
    see_account(request, query.account)
    if elsewhere := at_localhost(request, _login_path(query)):
        return elsewhere
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return pages.confirm(query.account, _login_path(query))
    if not wants_page(request):
        return await start_login(request, AccountQuery(), LoginBody(**query.model_dump()))
    return await _login_in_browser(request, services, query)


@router.get("/login/{login_id}", response_model_exclude_unset=True, tags=["login"])
async def login_state(request: Request, login_id: str, query: Annotated[WaitQuery, Query()]) -> LoginAnswer:
    """How a login stands; waits for its end if asked to."""
    services = services_of(request)
    await seen_login(request, login_id)
    return _login(services, await services.logins.get(login_id, query.wait))


@router.delete("/login/{login_id}", status_code=204, response_class=Response, tags=["login"])
async def cancel_login(request: Request, login_id: str) -> Response:
    """Cancel a login."""
    login = await seen_login(request, login_id)
    await services_of(request).logins.cancel(login.id, by=caller_of(request).name)
    return Response(status_code=204)


@router.post("/login/{login_id}/callback", response_model_exclude_unset=True, tags=["login"])
async def paste_callback(request: Request, login_id: str, body: PastedBody) -> LoginAnswer:
    """Finish a login with the URL from the address bar, when the browser's return could not reach us."""
    services = services_of(request)
    login = await seen_login(request, login_id)
    ended = await services.logins.finish(read_pasted(body.url), login_id=login.id, by=caller_of(request).name)
    return _login(services, ended)


@open_router.get("/callback", responses=_HTML, response_class=Response, tags=["login"])
@open_router.get(CALLBACK_PATH, responses=_HTML, response_class=Response, tags=["login"])
async def callback(request: Request) -> Response:
    """The browser comes back from the issuer; without a query, after a login that worked: how it ended."""
    services = services_of(request)
    query = request.scope["query_string"].decode("latin-1")
    if not query and COOKIE in request.cookies:
        return _end(services, request)
    bindings = {
        name.removeprefix(_COOKIE): Secret(value) for name, value in request.cookies.items() if name.startswith(_COOKIE)
    }
    try:
        login = await services.logins.finish(read_callback(query), bindings=bindings)
        standing = await services.broker.standing(login.account)
    except AuthError as exc:
        if isinstance(exc, LoginMismatch):
            services.trail.note("refused", "browser", exc.code, detail=call_of(request.scope))
        return pages.failed(exc, STATUS[exc.code][0])
    end = End(login.account, standing.credential.identity.email if standing.credential else None)
    goes_on = is_window(request) and is_at(request, services.public_url)  # a port for callbacks alone shuts now
    answer = pages.done(*end, f"{services.public_url}/", then=CALLBACK_PATH if goes_on else None)
    answer.headers.append("Set-Cookie", _cookie(_COOKIE + login.id, "", max_age=0))
    if goes_on:
        answer.headers.append("Set-Cookie", _cookie(COOKIE, services.ends.keep(end), max_age=SHOWN_FOR))
    return answer


def _end(services: Services, request: Request) -> Response:
    """How the login of this browser ended; nothing is done."""
    end, front_page = services.ends.of(request.cookies), f"{services.public_url}/"
    return pages.done(*end, front_page) if end else pages.ended(front_page)


@router.get("/status", tags=["account"])
async def status(request: Request, query: Account) -> StatusAnswer:
    """How an account stands. Never refreshes."""
    see_account(request, query.account)
    return await _status(services_of(request), query.account)


@router.get("/accounts", tags=["account"])
async def accounts(request: Request, query: Annotated[AccountsQuery, Query()]) -> AccountsAnswer:
    """How all accounts stand, by name: those that are the caller's business."""
    services = services_of(request)
    now = services.seams.now()
    found, following = await seen_standings(request, query)
    return AccountsAnswer(accounts=[answers.status(one, now, services.policies) for one in found], next=following)


@router.get("/token", response_model=TokenAnswer, responses=_TEXT, tags=["token"])
async def token(request: Request, query: Annotated[TokenQuery, Query()]) -> Response:
    """A token that is valid long enough, refreshed if need be."""
    return await _granted(request, query)


@router.get("/headers", response_model=dict[str, str], responses=_TEXT, tags=["token"])
async def headers(request: Request, query: Annotated[TokenQuery, Query()]) -> Response:
    """What to send to the provider."""
    return await _granted(request, query)


@router.get(FORWARD_AUTH, response_class=Response, responses=_FOR_A_PROXY, tags=["token"])
async def forward_auth(request: Request, query: Annotated[TokenQuery, Query()]) -> Response:
    """What to send to the provider, as headers of an empty answer, for a proxy; every refusal is 401 or 403."""
    return await _granted(request, query)


@router.post(TOKEN_ENDPOINT, response_model=RefreshedAnswer, openapi_extra=_FORM_OR_JSON, tags=["token"])
async def refresh(request: Request, query: Account) -> Response:
    """Give an existing OAuth client another access token for the client key that it holds as its refresh token.

    The guard has read the body: only the key in it says who asks. A key for one account means that one.
    """
    services, caller = services_of(request), caller_of(request)
    account = query.account
    if not query.model_fields_set and caller.accounts is not None and len(caller.accounts) == 1:
        (account,) = caller.accounts
    see_account(request, account)
    grant = await services.stand_ins.token(caller.name, account)
    body = answers.refreshed(grant, services.seams.now(), request.state.stand_in)
    return Response(body, media_type="application/json")


@router.put("/credential", tags=["account"])
async def install_credential(request: Request, query: Account, body: CredentialBody) -> InstalledAnswer:  # noqa: ARG001
    """Install a login made elsewhere; the body as it was sent is read by `oauth.imports`."""
    services = services_of(request)
    see_account(request, query.account)
    with noted(request, "import", account=query.account):
        persisted = await services.broker.install(query.account, await request.json(), "codex")
    standing = await _status(services, query.account)
    return InstalledAnswer(**standing.model_dump(), persisted=persisted)


@router.post(
    "/logout",
    response_model=LoggedOutAnswer,
    responses={**_HTML, 303: {"description": "A browser goes back to the page of the accounts"}},
    tags=["account"],
)
async def logout(request: Request, query: Account, body: NoBody | None = None) -> Response | LoggedOutAnswer:  # noqa: ARG001
    """End the login here and at the issuer. A body has nothing to say: an account in it would be overlooked."""
    services = services_of(request)
    see_account(request, query.account)
    with noted(request, "logout", account=query.account):
        revoked, standing = await services.broker.logout(query.account)
    if wants_page(request):
        return pages.signed_out_here(query.account) if revoked is False else see_other("/")
    left = answers.status(standing, services.seams.now(), services.policies)
    return LoggedOutAnswer(**left.model_dump(), revoked=revoked)


@open_router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """It answers."""
    return Health(status="ok")


@open_router.get("/readyz", tags=["health"])
async def readyz(request: Request) -> Health:
    """The store can be read and written, and holds all there is to hold."""
    await _check(services_of(request))
    return Health(status="ok")


@router.get("/metrics", response_class=Response, responses=_TEXT, tags=["health"])
async def metrics(request: Request) -> Response:
    """What is counted, for Prometheus: no secret, and no account that the caller does not see."""
    services = services_of(request)
    is_ready, credentials = False, []
    try:
        credentials = await services.broker.credentials(LOOKED_AT)
        await _check(services)
        is_ready = True
    except StoreUnavailable:
        pass  # that is what is told
    now = Now(is_ready, credentials, services.seams.now())
    return Response(services.metrics.text(now), headers={"Content-Type": METRICS_TYPE})


async def _check(services: Services) -> None:
    services.broker.check()
    await services.store.check()


async def _granted(request: Request, query: TokenQuery) -> Response:
    services = services_of(request)
    see_account(request, query.account)
    shape = answers.shape_of(query.format, asker_of(request.scope).accept)
    grant = await services.broker.token(query.account, answers.wish_of(query))
    told, body = answers.RENDERERS[request.scope["path"]](grant, services.seams.now(), shape)
    return Response(body, headers=told)


async def _status(services: Services, account: str) -> StatusAnswer:
    return answers.status(await services.broker.standing(account), services.seams.now(), services.policies)


def _login(services: Services, login: Login) -> LoginAnswer:
    return answers.login(login, services.seams.now(), services.logins.authorize_url(login))


def _started(services: Services, login: Login) -> Response:
    answer = _login(services, login).model_dump_json(exclude_unset=True)
    return Response(answer, 201, headers={"Location": f"/login/{login.id}"}, media_type="application/json")


def _login_path(query: LoginQuery) -> str:
    asked = urlencode(query.model_dump(exclude_defaults=True))
    return f"/login?{asked}" if asked else "/login"


async def _login_in_browser(request: Request, services: Services, query: LoginQuery) -> Response:
    """Bound by a cookie to the browser that asks, if it is at this machine, where the issuer sends it back to."""
    host = urlsplit(f"//{request.headers['host']}")
    binding = Secret(b64url(services.seams.token_bytes(32))) if host.hostname in LOOPBACK else None
    try:
        with noted(request, "login_started", account=query.account):
            login = await services.logins.start(
                query.account, query.provider, query.flow, replace=query.replace, binding=binding
            )
    except AuthError as exc:
        return pages.failed(exc, STATUS[exc.code][0])
    url = services.logins.authorize_url(login)
    if url is None:
        answer = _login(services, login)
        return pages.device(
            login.account,
            answer.user_code or "",
            answer.verification_uri or "",
            round(answer.expires_in / 60),
            login.fallback,
        )
    life = int(login.expires_at - login.created_at)
    bound = {"Set-Cookie": _cookie(_COOKIE + login.id, binding.reveal(), max_age=life)} if binding else None
    return see_other(url, bound)


def _cookie(name: str, value: str, *, max_age: int) -> str:
    return f"{name}={value}; Path={CALLBACK_PATH}; Max-Age={max_age}; HttpOnly; SameSite=Lax"
