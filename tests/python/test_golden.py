"""Every record of ``golden.json``, which App Engine's own modules left behind."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import golden_runner
import pytest

HERE = Path(__file__).resolve().parent
GOLDEN_FILE = HERE.parent / "vectors" / "golden.json"
GOLDEN = json.loads(GOLDEN_FILE.read_text(encoding="utf-8"))
API, HANDLERS = GOLDEN["api"], GOLDEN["handlers"]


def name_of(record):
    what = record.get("call") or record.get("body") or record.get("path") or ""
    form = record.get("form", {}).get("body", "")
    group = record.get("group") or record["framework"].partition(" ")[0]
    return f"{group}-{what}{form}".replace("/", "|")[:70]


def test_no_record_is_missing():
    assert (len(API), len(HANDLERS)) == (181, 23)


@pytest.mark.parametrize("record", API, ids=name_of)
def test_api(record):
    golden_runner.check_api(record)


@pytest.mark.parametrize("record", HANDLERS, ids=name_of)
def test_handlers(record):
    golden_runner.check_handler(record)


# Where the input stands in a record, not what came of it.
INPUTS = ("group", "call", "body", "form", "framework", "path")


def spoilt(value):
    if isinstance(value, dict):
        key = sorted(value)[0]
        return {**value, key: spoilt(value[key])}
    if isinstance(value, list):
        return [*value, "more"]
    return value + (1 if isinstance(value, int) else "x")


def outcomes(record):
    """The keys whose values a check compares."""
    keys = set(record) - set(INPUTS)
    if "body" in record:
        keys -= {"group"}
    if record.get("call") in golden_runner.PYTHONS_OWN_WORDS:
        keys -= {"args", "str"}
    return sorted(keys)


@pytest.mark.parametrize("record", API + HANDLERS, ids=name_of)
def test_a_check_can_fail(record):
    check = golden_runner.check_handler if "framework" in record else golden_runner.check_api
    assert outcomes(record)
    for key in outcomes(record):
        broken = copy.deepcopy(record)
        broken[key] = spoilt(broken[key])
        with pytest.raises((AssertionError, AttributeError)):
            check(broken)


def python2():
    pyenv = sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python"))
    for candidate in (os.environ.get("PYTHON2"), shutil.which("python2.7"), shutil.which("python2"), *pyenv):
        command = [str(candidate), "-c", "import sys; print(sys.version_info[:2] == (2, 7))"]
        if candidate and subprocess.run(command, capture_output=True, check=False).stdout.strip() == b"True":
            return str(candidate)
    return None


@pytest.fixture(scope="session")
def python2_with_webapp2(tmp_path_factory):
    """A Python 2.7 and a folder with webapp2 2.5.2, as on App Engine's last Python 2 runtime."""
    interpreter = python2()
    if interpreter is None:
        pytest.skip("NOT TESTED ON PYTHON 2.7: no interpreter found (PYTHON2=/path/to/python2.7 names one)")
    folder = tmp_path_factory.mktemp("python2")
    install = [interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*install, "webapp2==2.5.2", "WebOb==1.8.9"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED ON PYTHON 2.7: pip of {interpreter} cannot install webapp2: {done.stderr[-400:]}")
    return interpreter, folder


def installed_folder():
    import appxmpp

    return Path(appxmpp.__file__).parent.parent


def test_every_record_holds_on_python_2(python2_with_webapp2, tmp_path):
    interpreter, webapp2 = python2_with_webapp2
    # The product alone, not the Python 3 packages that may stand beside it.
    for package in ("appxmpp", "google"):
        source = installed_folder() / package
        ignore = shutil.ignore_patterns("*.so", "__pycache__", "*.pyc")
        shutil.copytree(source, tmp_path / package, ignore=ignore, dirs_exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(tmp_path), str(webapp2)])}
    command = [interpreter, "-B", str(HERE / "golden_runner.py"), str(GOLDEN_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.endswith("204 of 204 records hold\n"), done.stdout + done.stderr
    assert done.returncode == 0


def test_every_record_holds_without_googles_sdk(tmp_path):
    """The stub map and the errors are our own then, under the same names."""
    probe = (
        "import sys, golden_runner; from google.appengine.api import apiproxy_stub_map as m;"
        "assert 'fallback' in m.__file__, m.__file__; sys.exit(golden_runner.main(sys.argv[1]))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(HERE), str(installed_folder())])}
    command = [sys.executable, "-W", "ignore", "-c", probe, str(GOLDEN_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)
    assert done.stdout.endswith("204 of 204 records hold\n"), done.stdout + done.stderr
