"""The table of commands: names, options, help. What each one does is in its own module, loaded when it runs."""

# ruff: noqa: PLC0415

import re
from typing import Annotated, Literal

import typer

from service import __version__
from service.cli.address import the_service
from service.domain.caller import RIGHTS

app = typer.Typer(
    help="The one owner of a machine's OAuth logins. Every command but serve, demo, doctor and openapi asks a running"
    " service.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 login required, 4 service not reachable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich costs more than a whole `token`
    pretty_exceptions_enable=False,  # they show local variables, which may be tokens
    context_settings={"help_option_names": ["-h", "--help"]},
)

keys_app = typer.Typer(help="Client keys, for whoever is not the owner.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys_app, name="keys")

Account = Annotated[str, typer.Option("--account", metavar="NAME", help="Which login.")]
Json = Annotated[bool, typer.Option("--json", help="The service's answer as JSON, on stdout.")]
MinTtl = Annotated[
    int | None, typer.Option("--min-ttl", min=0, metavar="SECONDS", help="How long the token must be valid at least.")
]
NewerThan = Annotated[
    int | None,
    typer.Option("--newer-than", min=0, metavar="GENERATION", help="The generation whose token was just rejected."),
]


def _scope(text: str) -> frozenset[str]:
    """Some of the rights, with commas."""
    scope = frozenset(text.split(","))
    if not scope <= set(RIGHTS):
        raise typer.BadParameter(f"some of {', '.join(RIGHTS)}, with commas")
    return scope


def _seconds(text: str) -> int:
    """A duration in seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd]?)", text)
    if found is None:
        raise typer.BadParameter("a number of seconds, or like 30d, 12h, 90m")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda value: _show_version() if value else None)
    ] = False,
) -> None:
    """Options that stand before the command."""


@app.command()
def serve() -> None:
    """Run the service until it is told to stop."""
    from service.cli.serve import run

    raise typer.Exit(run())


@app.command()
def login(
    account: Account = "default",
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Whose login.")] = None,
    device: Annotated[bool, typer.Option("--device", help="Show a code to enter on any other device.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Even if it is another person's login now.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Show the address, open nothing.")] = False,
) -> None:
    """Log in: in a browser, or with a code on another device."""
    from service.cli.login import log_in

    wish = {"account": account, "flow": "device" if device else "auto", "replace": replace}
    if provider is not None:
        wish["provider"] = provider
    raise typer.Exit(log_in(the_service(), wish, may_open=not no_browser))


@app.command()
def status(account: Account = "default", json: Json = False) -> None:
    """Show how a login stands; exit code 3 when nobody is logged in."""
    from service.cli.accounts import show_status

    raise typer.Exit(show_status(the_service(), account=account, as_json=json))


@app.command()
def token(
    account: Account = "default", min_ttl: MinTtl = None, newer_than: NewerThan = None, json: Json = False
) -> None:
    """Print a valid access token and nothing else."""
    from service.cli.access import Wish, print_token

    raise typer.Exit(print_token(Wish(account, min_ttl, newer_than, json)))


@app.command()
def headers(
    account: Account = "default", min_ttl: MinTtl = None, newer_than: NewerThan = None, json: Json = False
) -> None:
    """Print the headers to send to the provider, for `curl -H @-`."""
    from service.cli.access import Wish, print_headers

    raise typer.Exit(print_headers(Wish(account, min_ttl, newer_than, json)))


@app.command()
def logout(account: Account = "default") -> None:
    """End a login, here and at the issuer."""
    from service.cli.accounts import log_out

    raise typer.Exit(log_out(the_service(), account=account))


@app.command()
def accounts(json: Json = False) -> None:
    """List all accounts."""
    from service.cli.accounts import show_accounts

    raise typer.Exit(show_accounts(the_service(), as_json=json))


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A JSON file, or - for stdin.", show_default=False)],
    account: Account = "default",
) -> None:
    """Hand a login to the service that another program made.

    FILE is a Codex auth.json (~/.codex/auth.json), a Pixir auth.json (~/.pixir/auth.json), or a credential in the
    service's own shape. Afterwards the service owns the login: no other program may refresh it.
    """
    from service.cli.transfer import import_credential

    raise typer.Exit(import_credential(the_service(), file, account=account))


@app.command()
def export(
    form: Annotated[
        Literal["codex", "pixir", "env"],
        typer.Option("--format", help="An auth.json of Codex or Pixir, or shell lines."),
    ],
    account: Account = "default",
    stand_in: Annotated[
        str | None,
        typer.Option(
            "--stand-in", metavar="FILE|-", help="A client key that Codex refreshes with, through the service."
        ),
    ] = None,
    with_refresh_token: Annotated[
        bool,
        typer.Option("--with-refresh-token", help="The whole login: the service gives it up and refreshes it no more."),
    ] = False,
) -> None:
    """Print the present token in another program's shape, without the refresh token unless you ask for it."""
    from service.cli.transfer import export_credential, hand_over

    if with_refresh_token:
        if stand_in is not None:
            raise typer.BadParameter("--stand-in and --with-refresh-token exclude each other")
        raise typer.Exit(hand_over(the_service(), form, account=account))
    raise typer.Exit(export_credential(the_service(), form, account=account, stand_in=stand_in))


@keys_app.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    account: Annotated[
        list[str] | None, typer.Option("--account", metavar="NAME", help="A login it is for; all if none is given.")
    ] = None,
    scope: Annotated[
        frozenset[str] | None,
        typer.Option(
            "--scope",
            metavar=",".join(RIGHTS),
            parser=_scope,
            help="What it may be used for: some of these; token,headers,status if not given.",
        ),
    ] = None,
    expires_in: Annotated[
        int | None,
        typer.Option(
            "--expires-in", metavar="DURATION", parser=_seconds, help="How long it is good: 30d, 12h, 90m or seconds."
        ),
    ] = None,
) -> None:
    """Make a client key and print it, once."""
    from service.cli.keys import add_key

    raise typer.Exit(add_key(the_service(), name, accounts=account or (), scope=scope or (), expires_in=expires_in))


@keys_app.command("list")
def keys_list(json: Json = False) -> None:
    """List all client keys: what they are for, and when they were last used."""
    from service.cli.keys import list_keys

    raise typer.Exit(list_keys(the_service(), as_json=json))


@keys_app.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one.", show_default=False)],
) -> None:
    """Revoke a client key: it is refused from now on, everywhere."""
    from service.cli.keys import revoke_key

    raise typer.Exit(revoke_key(the_service(), name))


@app.command()
def audit(
    json: Json = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many entries, newest first.")] = 100,
) -> None:
    """Show who did what: logins, refreshes, logouts, client keys, and who was refused."""
    from service.cli.keys import show_audit

    raise typer.Exit(show_audit(the_service(), limit=limit, as_json=json))


@app.command()
def rekey() -> None:
    """Seal everything that is kept with a new encryption key, while the service runs."""
    from service.cli.keys import seal_anew

    raise typer.Exit(seal_anew(the_service()))


@app.command()
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, or - for stdout.", show_default=False)],
) -> None:
    """Write all accounts and client keys to a file, sealed as they are stored, while the service runs."""
    from service.cli.backup import back_up

    raise typer.Exit(back_up(the_service(), file))


@app.command()
def restore(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE|-]", help="What backup made, or - for stdin.", show_default=False)
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also accounts that are logged in here.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="The client keys too.")] = False,
    unspent: Annotated[
        list[str] | None,
        typer.Option("--confirm-unspent", metavar="NAME", help="Nobody has refreshed this login since the backup."),
    ] = None,
    all_unspent: Annotated[
        bool, typer.Option("--confirm-all-unspent", help="Nobody has refreshed any of them since the backup.")
    ] = False,
) -> None:
    """Take back what backup wrote. A login is not refreshed until you confirm that nobody has since the backup.

    To send a refresh token that is spent looks like theft, and the issuer may end the login. Without FILE it confirms
    what was restored before.
    """
    from service.cli.backup import confirm, restore

    if file is None:
        if replace or keys or all_unspent or not unspent:
            raise typer.BadParameter("a FILE is missing")
        raise typer.Exit(confirm(the_service(), unspent))
    options = {"replace": replace, "keys": keys, "every": all_unspent}
    raise typer.Exit(restore(the_service(), file, unspent=unspent or (), **options))


@app.command()
def demo() -> None:
    """Run a sandbox issuer and a service on a throw-away store, logged in, with lines to try."""
    from service.cli.demo import run

    raise typer.Exit(run())


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="The findings as JSON, on stdout.")] = False) -> None:
    """Tell what is wrong with this installation, and how to mend it. Changes nothing."""
    from service.cli.doctor import run

    raise typer.Exit(run(as_json=json))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from service.cli.openapi import run

    raise typer.Exit(run())


def _show_version() -> None:
    typer.echo(__version__)
    raise typer.Exit
