"""The command line: `appxmpp run`, `appxmpp dev`, `appxmpp demo`, and the gateway's commands."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from appxmpp import __version__, appyaml, backend, errors, gateway, run, settings, talk
from appxmpp.app_id import version_at
from appxmpp.exits import CONFIG, OK, REFUSED, RUNTIME, USAGE, Exit

if TYPE_CHECKING:
    from appxmpp._native import App, DevServer

_LEVELS = ("debug", "info", "warning", "error")

_EXITS = f"""\
exit codes: {OK} stopped, {RUNTIME} failed, {USAGE} wrong usage, {REFUSED} the server refused
the secret, {CONFIG} app.yaml or a setting is wrong.
An option that names a variable can be set there as well.
Where `run` connects: APPXMPP_BACKEND, and the secret APPXMPP_SECRET or APPXMPP_SECRET_FILE.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The `appxmpp` command; the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] and arguments[0] in gateway.COMMANDS:
        return gateway.main(arguments)
    try:
        settings.refuse_secrets(arguments)
        options = _parser().parse_args(arguments)
        _log_to_stderr(options.log_level)
        return int(options.command(options))
    except Exit as error:
        print(f"appxmpp: {error}", file=sys.stderr)
        return error.code
    except errors.NotAuthorizedError as error:
        print(f"appxmpp: {error}", file=sys.stderr)
        return REFUSED
    except errors.ConfigError as error:
        print(f"appxmpp: {error}", file=sys.stderr)
        return CONFIG
    except errors.Error as error:
        print(f"appxmpp: {error}", file=sys.stderr)
        return RUNTIME
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appxmpp",
        description="App Engine's chat service on any XMPP server.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument(
        "--version", action="version", version=f"appxmpp {__version__} (Python, {here})"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _run_parser(commands)
    _dev_parser(commands)
    demo = _add(commands, "demo", "chat with an example bot, without a server", _demo)
    _option(demo, "--log-level", "LEVEL", "how much to log", "warning", _level)
    # For the list in --help alone: main() hands them on before anything is parsed.
    for name, text in gateway.COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


def _run_parser(commands: Any) -> None:
    parser = _add(commands, "run", "run an App Engine app on an XMPP server", _run)
    _app_option(parser)
    _option(
        parser,
        "--backend",
        "URL",
        "where to connect, without the secret: component://DOMAIN@HOST:PORT or client://NAME@DOMAIN",
        "",
    )
    _http_options(parser)
    _option(
        parser,
        "--state",
        "FILE",
        "keeps subscriptions and presence (default: in the user's state folder)",
        "",
    )
    parser.add_argument(
        "--durable",
        action="store_true",
        default=backend.durable(os.environ.get("APPXMPP_DURABLE", "")),
        help="messages count as sent when they are in the state file, stay there until the server "
        "has read them, and what the app has not handled comes again [APPXMPP_DURABLE]",
    )
    _option(
        parser,
        "--quotas",
        "NAME=N,...",
        "what the app may use in a day: api_calls, data_sent_bytes, recipients_messaged, "
        "invitations_sent",
        "",
    )
    _option(
        parser,
        "--keepalive",
        "SECONDS",
        "after which silence the server is asked whether it is there; 0 for never",
        "60",
    )
    _option(
        parser,
        "--app-version",
        "VERSION",
        "which version of the app this is, if its component is VERSION.latest.DOMAIN; app.yaml's, "
        "if the component is called after that one",
        "",
    )
    _option(
        parser,
        "--addresses",
        "FORM",
        "how the app sees its own addresses: domain, as they are, or appengine, as "
        "APP_ID@appspot.com and anything@APP_ID.appspotchat.com",
        "domain",
    )
    _option(
        parser, "--drain", "SECONDS", "time to finish deliveries when asked to stop", "20", _seconds
    )


def _dev_parser(commands: Any) -> None:
    parser = _add(commands, "dev", "try an app in this terminal, without an XMPP server", _dev)
    _app_option(parser)
    _http_options(parser)
    parser.add_argument(
        "--as", dest="me", metavar="JID", default="romeo@example.net/console", help="who you are"
    )
    parser.add_argument(
        "--talk",
        metavar="FILE",
        help="play this conversation (#me and #bot lines) instead of asking; without a terminal, "
        "talk.txt beside app.yaml is played",
    )
    parser.add_argument(
        "--console",
        metavar="ADDRESS:PORT",
        nargs="?",
        const="127.0.0.1:5282",
        help="play any user on a web page instead of in the terminal; default 127.0.0.1:5282",
    )


def _app_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "app", nargs="?", default="app.yaml", metavar="app.yaml", help="the app's app.yaml"
    )


def _http_options(parser: argparse.ArgumentParser) -> None:
    _option(parser, "--host", "HOST", "the address the app's web pages are served at", "127.0.0.1")
    _option(parser, "--port", "PORT", "and the port; 0 chooses one, none is no web", "8080", _port)
    _option(
        parser, "--public-url", "URL", "the address users see, such as https://bot.example.com", ""
    )
    _option(parser, "--workers", "N", "stanzas delivered at a time", "8", _count)
    _option(parser, "--log-level", "LEVEL", "how much to log", "info", _level)


def _add(commands: Any, name: str, text: str, function: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _option(
    parser: argparse.ArgumentParser, flag: str, form: str, text: str, default: str, kind: Any = str
) -> None:
    """An option that is also the environment variable of its name."""
    variable = "APPXMPP_" + flag.lstrip("-").replace("-", "_").upper()
    shown = f"; default {default}" if default else ""
    parser.add_argument(
        flag,
        metavar=form,
        type=kind,
        default=os.environ.get(variable) or default,
        help=f"{text} [{variable}{shown}]",
    )


def _seconds(text: str) -> float:
    return float(_number(float, text, 0, 3600))


def _count(text: str) -> int:
    return int(_number(int, text, 1, 1000))


def _port(text: str) -> int | None:
    return None if text == "none" else int(_number(int, text, 0, 65535))


def _number(kind: Any, text: str, least: int, most: int) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
    return value


def _level(text: str) -> str:
    if text not in _LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_LEVELS)}")
    return text


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def _native(development: bool = False) -> Any:
    try:
        with warnings.catch_warnings():
            if development:
                # That the build is slow is of interest where it is put to work.
                warnings.simplefilter("ignore", RuntimeWarning)
            from appxmpp import _native
    except ImportError as error:
        raise Exit(
            f"the native module cannot be loaded ({error}). "
            "Install a wheel of appxmpp made for this Python."
        ) from None
    return _native


def _run_options(options: argparse.Namespace, **changes: Any) -> run.Options:
    return run.Options(
        listen=None if options.port is None else (options.host, options.port),
        public_url=options.public_url or None,
        workers=options.workers,
        **changes,
    )


def _run(options: argparse.Namespace) -> int:
    config = appyaml.load(options.app)
    url = settings.backend(options.backend, os.environ)
    native = _native()
    domain = native.backend_domain(url)
    if domain is None:
        raise Exit(
            f"{url} is no server to run on. To try the app without one: appxmpp dev {options.app}"
        )
    version = options.app_version or version_at(domain, config.version)
    chat = native.App(
        url,
        secret=backend.secret(os.environ),
        app_id=settings.app_id(os.environ, config.application),
        inbound_services=list(config.inbound_services),
        state=settings.state(options.state, os.environ, domain),
        durable=options.durable,
        quotas=backend.quotas(options.quotas),
        keepalive=backend.keepalive(options.keepalive),
        version=version,
        addresses=options.addresses,
    )
    config = dataclasses.replace(config, version=version or config.version)
    run.announce(config)
    return run.serve(run.Runner(config, _run_options(options, drain=options.drain), chat))


def _dev(options: argparse.Namespace) -> int:
    config = appyaml.load(options.app)
    run_options = _run_options(options, development=True)
    if options.console:
        return _console(config, options.console, run_options)
    return _talk(config, options.me, options.talk, run_options)


def _console(config: appyaml.AppYaml, listen: str, options: run.Options) -> int:
    with _on_dev_server(config, options) as (server, _, runner, bot):
        url = server.console(listen, bot)
        print(f"The console is at {url}\nCtrl-C ends.", flush=True)
        return run.serve(runner)


def _demo(options: argparse.Namespace) -> int:
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo")
    return _talk(
        appyaml.load(folder),
        "romeo@example.net/console",
        None,
        run.Options(listen=None, development=True),
    )


def _talk(config: appyaml.AppYaml, me: str, talk_file: str | None, options: run.Options) -> int:
    interactive = sys.stdin.isatty() and not talk_file
    lines = [] if interactive else _conversation(talk_file, config)
    with _on_dev_server(config, options) as (server, chat, runner, bot):
        from appxmpp import dev

        runner.start()
        chat.wait_ready(dev.PATIENCE)
        person = dev.Person(server, me, bot)
        try:
            if interactive:
                dev.chat(server, person, sys.stdout)
            else:
                dev.play(server, person, lines, sys.stdout)
        finally:
            runner.stop(options.drain if interactive else 5.0)
    return OK


@contextlib.contextmanager
def _on_dev_server(
    config: appyaml.AppYaml, options: run.Options
) -> Iterator[tuple[DevServer, App, run.Runner, str]]:
    """An embedded server, the app's connection to it, what will run the app, and its address."""
    _native(development=True)
    from appxmpp import dev

    app_id = settings.app_id(os.environ, config.application) or "app"
    # The address the app had on App Engine. No network is asked about it.
    domain = f"{app_id}.appspotchat.com"
    with dev.opened(domain, app_id, config) as (server, chat):
        run.announce(config)
        yield server, chat, run.Runner(config, options, chat), f"{app_id}@{domain}"


def _conversation(path: str | None, config: appyaml.AppYaml) -> list[talk.Line]:
    path = path or os.path.join(config.root, "talk.txt")
    try:
        with open(path, encoding="utf-8") as file:
            return talk.parse(file.read(), path)
    except FileNotFoundError:
        raise Exit(
            f"standard input is no terminal, and there is no conversation to play at {path}. "
            "Write one (#me and #bot lines), or name one with --talk FILE.",
            USAGE,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Exit(f"{path} cannot be read as a conversation: {error}", USAGE) from None


if __name__ == "__main__":
    sys.exit(main())
