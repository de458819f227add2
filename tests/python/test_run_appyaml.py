"""What is read of an app.yaml, and what is said about a wrong one."""

import pytest
from appxmpp import appyaml
from appxmpp.exits import CONFIG, Exit


def parse(text):
    return appyaml.parse(text, "/srv/bot/app.yaml")


LEGACY = """\
application: my-bot
version: 7
runtime: python27
api_version: 1
threadsafe: true
inbound_services:
- xmpp_presence
- xmpp_message
- mail
handlers:
- url: /static
  static_dir: files/public
- url: /favicon\\.ico
  static_files: files/favicon.ico
  upload: files/favicon\\.ico
- url: /_ah/xmpp/.*
  script: bot.app
  login: admin
- url: .*
  script: main.py
env_variables:
  GREETING: hello
  DEBUG: yes
  SIZE: 3
"""


def test_a_legacy_app_yaml_is_read_as_app_engine_did():
    config = parse(LEGACY)
    assert (config.application, config.version, config.threadsafe) == ("my-bot", "7", True)
    assert config.root == "/srv/bot"
    assert config.inbound_services == ("xmpp_message", "xmpp_presence")
    assert config.env_variables == {"GREETING": "hello", "DEBUG": "True", "SIZE": "3"}
    assert [(h.url, h.script, h.static_dir, h.static_files, h.login) for h in config.handlers] == [
        ("/static", None, "files/public", None, "optional"),
        ("/favicon\\.ico", None, None, "files/favicon.ico", "optional"),
        ("/_ah/xmpp/.*", "bot.app", None, None, "admin"),
        (".*", "main.py", None, None, "optional"),
    ]


def test_what_is_not_used_is_named():
    assert parse(LEGACY).ignored == ("api_version", "runtime", "inbound_services: mail")
    remote = "handlers:\n- url: /remote_api\n  script: $PYTHON_LIB/google/appengine/ext/remote_api/handler.py\n"
    config = parse(remote)
    assert config.handlers == ()
    assert "script: $PYTHON_LIB" in config.ignored[0]


@pytest.mark.parametrize(
    ("text", "threadsafe"),
    [
        ("application: a\n", True),
        ("handlers:\n- url: .*\n  script: main.app\n", True),
        ("handlers:\n- url: .*\n  script: main.py\n", False),
        ("threadsafe: no\nhandlers:\n- url: .*\n  script: main.app\n", False),
        ("threadsafe: true\nhandlers:\n- url: .*\n  script: main.py\n", True),
    ],
)
def test_one_request_at_a_time_where_app_engine_did_so(text, threadsafe):
    assert parse(text).threadsafe is threadsafe


def test_without_handlers_main_app_gets_everything():
    (handler,) = parse("runtime: python312\n").handlers
    assert (handler.url, handler.script) == ("/.*", "main.app")
    (handler,) = parse("handlers:\n- url: /.*\n  script: auto\n").handlers
    assert handler.script == "main.app"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("- a\n", "holds a list"),
        ("a: [1\n", "is not valid YAML: line 2, column 1"),
        ("a: *nobody\n", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
        ("application: [a]\n", "`application` must be one value"),
        ("inbound_services: xmpp_message\n", "must be a list"),
        ("inbound_services: [xmpp_mesage]\n", "no inbound service 'xmpp_mesage'; there are xmpp_message,"),
        ("handlers: main.app\n", "must be a list"),
        ("handlers:\n- script: main.app\n", "handler 1 needs a `url:`"),
        ("handlers:\n- url: '('\n  script: main.app\n", "is not a regular expression"),
        ("handlers:\n- url: /x\n", "needs one of `script:`"),
        ("handlers:\n- url: /x\n  script: a.b\n  static_dir: c\n", "needs one of"),
        ("handlers:\n- url: /x\n  script: a.b\n  login: maybe\n", "login must be"),
        ("env_variables: [A]\n", "must map names to values"),
        ("env_variables:\n  A: {b: c}\n", "the value of A must be text"),
        ("threadsafe: perhaps\n", "must be true or false"),
        ("a: " + "[" * 100000, ""),
    ],
)
def test_a_wrong_app_yaml_is_explained(text, says):
    with pytest.raises(Exit, match=r"/srv/bot/app[.]yaml") as caught:
        parse(text)
    assert says in str(caught.value)
    assert caught.value.code == CONFIG


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(Exit, match=r"there is no file .*app.yaml.*appxmpp run path/to"):
        appyaml.load(str(tmp_path))
    (tmp_path / "app.yaml").write_bytes(b"application: caf\xe9\n")
    with pytest.raises(Exit, match=r"not UTF-8 text \(byte 16\)"):
        appyaml.load(str(tmp_path / "app.yaml"))


def test_the_folder_stands_for_its_app_yaml(tmp_path):
    (tmp_path / "app.yaml").write_text("application: here\n")
    assert appyaml.load(str(tmp_path)).application == "here"
