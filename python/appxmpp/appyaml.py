"""What `appxmpp run` and `appxmpp dev` read of an app.yaml."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from appxmpp.exits import Exit

#: The inbound services of App Engine that are about chat.
INBOUND_SERVICES = ("xmpp_message", "xmpp_presence", "xmpp_subscribe", "xmpp_error")

_USED = frozenset(
    ["application", "version", "inbound_services", "handlers", "env_variables", "threadsafe"]
)
_URL_GROUP = re.compile(r"\\[0-9]")


@dataclasses.dataclass(frozen=True)
class Handler:
    """One entry of `handlers`: exactly one of `script`, `static_dir`, `static_files` is set."""

    url: str
    script: str | None = None
    static_dir: str | None = None
    static_files: str | None = None
    #: `optional`, `required` or `admin`.
    login: str = "optional"


@dataclasses.dataclass(frozen=True)
class AppYaml:
    """An app.yaml, as far as it matters here. Paths in it are relative to `root`."""

    path: str
    root: str
    application: str | None
    version: str
    inbound_services: tuple[str, ...]
    handlers: tuple[Handler, ...]
    env_variables: dict[str, str]
    #: False where App Engine sent an instance one request at a time.
    threadsafe: bool
    #: What was found and is not used, as the file spells it.
    ignored: tuple[str, ...]


def load(path: str) -> AppYaml:
    """Read the app.yaml at `path`, a file or its folder; an Exit says what is wrong with it."""
    if os.path.isdir(path):
        path = os.path.join(path, "app.yaml")
    path = os.path.abspath(path)
    return parse(_read(path), path)


def parse(text: str, path: str) -> AppYaml:
    """The AppYaml that `text` describes; `path` is where it was found."""
    data = _yaml(text, path)
    ignored = sorted(str(key) for key in data if key not in _USED)
    services = _services(data.get("inbound_services"), path, ignored)
    handlers = _handlers(data.get("handlers"), path, ignored)
    return AppYaml(
        path=path,
        root=os.path.dirname(path),
        application=_text(data.get("application"), "application", path),
        version=_text(data.get("version"), "version", path) or "1",
        inbound_services=services,
        handlers=handlers,
        env_variables=_environment(data.get("env_variables"), path),
        threadsafe=_threadsafe(data.get("threadsafe"), handlers, path),
        ignored=tuple(ignored),
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise Exit(
            f"there is no file {path}. Give the path of your app's app.yaml: "
            "appxmpp run path/to/app.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise Exit(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise Exit(f"{path} cannot be read: {error.strerror}.") from None


def _yaml(text: str, path: str) -> dict[Any, Any]:
    try:
        import yaml
    except ImportError:
        raise Exit("reading app.yaml needs PyYAML: pip install 'appxmpp[run]'") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Exit(f"{path} is not valid YAML: {_one_line(error)}") from None
    except RecursionError:
        raise Exit(f"{path} is nested too deeply to be an app.yaml.") from None
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds a {type(data).__name__}"
        raise Exit(f"{path} {found}; an app.yaml has keys such as `application:` and `handlers:`.")
    return data


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _text(value: Any, key: str, path: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, (dict, list)):
        raise Exit(f"{path}: `{key}` must be one value, not a {type(value).__name__}.")
    return str(value)


def _services(value: Any, path: str, ignored: list[str]) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Exit(f"{path}: `inbound_services` must be a list, such as `- xmpp_message`.")
    for name in value:
        if str(name).startswith("xmpp") and name not in INBOUND_SERVICES:
            raise Exit(
                f"{path}: there is no inbound service {name!r}; there are "
                f"{', '.join(INBOUND_SERVICES)}."
            )
    ignored.extend(f"inbound_services: {name}" for name in value if name not in INBOUND_SERVICES)
    return tuple(name for name in INBOUND_SERVICES if name in value)


def _environment(value: Any, path: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Exit(f"{path}: `env_variables` must map names to values, such as `  LANG: en`.")
    result = {}
    for name, text in value.items():
        if isinstance(text, bool):
            # YAML 1.1 reads yes, no, on, off as booleans; App Engine handed on 'True' or 'False'.
            text = str(text)
        if text is None or isinstance(text, (dict, list)):
            raise Exit(
                f"{path}: env_variables: the value of {name} must be text; put it in quotes."
            )
        result[str(name)] = str(text)
    return result


def _handlers(value: Any, path: str, ignored: list[str]) -> tuple[Handler, ...]:
    if value is None:
        # The Python 3 runtimes of App Engine let the key out and ran `app` of main.py.
        return (Handler(url="/.*", script="main.app"),)
    if not isinstance(value, list):
        raise Exit(f"{path}: `handlers` must be a list of entries that start with `- url:`.")
    entries = (_handler(entry, number, path, ignored) for number, entry in enumerate(value, 1))
    return tuple(handler for handler in entries if handler is not None)


def _handler(entry: Any, number: int, path: str, ignored: list[str]) -> Handler | None:
    where = f"{path}: handler {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        raise Exit(f"{where} needs a `url:`, such as `- url: /.*`.")
    url = entry["url"]
    try:
        re.compile(url)
    except re.error as error:
        raise Exit(f"{where}: the url {url!r} is not a regular expression: {error}.") from None
    kinds = [
        kind for kind in ("script", "static_dir", "static_files") if entry.get(kind) is not None
    ]
    if len(kinds) != 1:
        raise Exit(f"{where} ({url}) needs one of `script:`, `static_dir:`, `static_files:`.")
    target = _text(entry[kinds[0]], kinds[0], where) or ""
    if kinds[0] == "script" and (_URL_GROUP.search(target) or target.startswith("$PYTHON_LIB")):
        ignored.append(f"handlers: {url} (script: {target})")
        return None
    if target == "auto":
        target = "main.app"
    return Handler(url=url, login=_login(entry.get("login"), where), **{kinds[0]: target})


def _login(value: Any, where: str) -> str:
    if value in (None, "optional"):
        return "optional"
    if value in ("required", "admin"):
        return str(value)
    raise Exit(f"{where}: login must be optional, required or admin, not {value!r}.")


def _threadsafe(value: Any, handlers: tuple[Handler, ...], path: str) -> bool:
    if value is None:
        # App Engine allowed concurrent requests to WSGI applications only, never to CGI scripts.
        return not any(handler.script and handler.script.endswith(".py") for handler in handlers)
    if not isinstance(value, bool):
        raise Exit(f"{path}: `threadsafe` must be true or false, not {value!r}.")
    return value
