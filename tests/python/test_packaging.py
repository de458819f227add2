"""Real wheels in real virtual environments: alone, beside Google's packages, in every layout."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOLDEN = HERE.parent / "vectors" / "golden.json"
SDK = "appengine-python-standard==3.1.0"
NEIGHBOURS = ["protobuf", "google-cloud-storage", "google-auth", "google-api-core", "googleapis-common-protos"]


def run(*command, **environment):
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "APPXMPP_", "VIRTUAL"))
    }
    done = subprocess.run(
        [str(part) for part in command], env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this source tree; the cargo cache makes this quick after the first time."""
    out = tmp_path_factory.mktemp("wheel")
    maturin = [sys.executable, "-m", "maturin", "build", "--quiet", "--profile", "dev"]
    run(*maturin, "--manifest-path", ROOT / "python" / "Cargo.toml", "--interpreter", sys.executable, "--out", out)
    (found,) = out.glob("*.whl")
    return found


class Environment:
    """A virtual environment, and the pip of this one that installs into it."""

    def __init__(self, folder, like=None):
        self.folder = folder
        if like is None:
            run(sys.executable, "-m", "venv", "--without-pip", folder)
        else:
            # Files are only ever replaced, never written to, so links are as good as copies.
            shutil.copytree(like.folder, folder, symlinks=True, copy_function=os.link)
        self.python = folder / "bin" / "python"
        version = "python{}.{}".format(*sys.version_info[:2])
        self.site = folder / "lib" / version / "site-packages"

    def pip(self, *arguments):
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        return run(sys.executable, "-m", "pip", "--python", self.python, *quiet, *arguments)

    def install(self, *packages):
        self.pip("install", "--no-compile", *packages)

    def uninstall(self, *packages):
        self.pip("uninstall", "--yes", *packages)

    def check(self, *wanted, path=()):
        """Runs the probe; `path` comes before the environment's own packages."""
        search = os.pathsep.join(str(folder) for folder in [*path, HERE])
        out = run(self.python, "-W", "ignore", HERE / "layout_probe.py", GOLDEN, *wanted, PYTHONPATH=search)
        assert out.endswith("layout ok\n"), out

    def files(self, *names):
        """What stands in site-packages, by content."""
        return {
            str(file.relative_to(self.site)): hashlib.sha256(file.read_bytes()).hexdigest()
            for name in names
            for file in (self.site / name).rglob("*")
            if file.is_file() and file.suffix != ".pyc"
        }


@pytest.fixture
def env(tmp_path):
    return Environment(tmp_path / "env")


@pytest.fixture(scope="session")
def sdk(tmp_path_factory):
    """An environment with Google's SDK, to make others like it."""
    made = Environment(tmp_path_factory.mktemp("sdk") / "env")
    made.install(SDK)
    return made


@pytest.fixture
def sdk_env(tmp_path, sdk):
    return Environment(tmp_path / "sdk_env", like=sdk)


@pytest.fixture
def lib(wheel, tmp_path):
    """The wheel unpacked into a folder, as vendored packages are."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "lib")
    return tmp_path / "lib"


class TestWheel:
    def test_parents_are_left_to_others(self, wheel):
        names = zipfile.ZipFile(wheel).namelist()
        google = sorted(name for name in names if name.startswith("google/"))
        assert google
        for name in google:
            assert name.startswith(("google/appengine/api/xmpp/", "google/appengine/ext/webapp/")), name
        assert not [name for name in names if "__pycache__" in name or name.endswith((".rs", ".toml"))]

    def test_what_it_says_of_itself(self, wheel):
        archive = zipfile.ZipFile(wheel)
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "Requires-Python: >=3.10" in metadata
        required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
        assert required
        assert all("extra ==" in line for line in required), required
        assert "appxmpp=appxmpp.__main__:main" in archive.read(f"{info}/entry_points.txt").decode().replace(" ", "")
        assert "appxmpp/py.typed" in archive.namelist()
        assert "cp310-abi3" in wheel.name

    def test_every_module_has_types(self, wheel):
        names = set(zipfile.ZipFile(wheel).namelist())
        untyped = [
            name
            for name in names
            if name.startswith(("google/", "appxmpp/appengine/"))
            and name.endswith(".py")
            and "/fallback/" not in name
            and name + "i" not in names
        ]
        assert untyped == []


class TestAlone:
    def test_and_gone_without_a_trace(self, env, wheel):
        env.install(f"{wheel}[run]")
        env.check("webapp")
        assert "usage" in run(env.folder / "bin" / "appxmpp", "--help").lower()
        assert (env.site / "appxmpp_finder.pth").is_file()
        env.uninstall("appxmpp")
        assert [name for name in env.files(".") if "appxmpp" in name or "google" in name] == []
        assert run(env.python, "-c", "print('quiet')") == "quiet\n"

    def test_starting_python_loads_little(self, env, wheel):
        env.install(wheel)
        loaded = run(env.python, "-c", "import sys; print(*sorted(sys.modules))").split()
        assert [name for name in loaded if "appxmpp" in name] == ["appxmpp", "appxmpp._finder"]
        assert "importlib.util" not in loaded


class TestBesideGooglesSdk:
    def test_sdk_then_ours_then_ours_alone(self, sdk_env, wheel):
        sdk_env.install(f"{wheel}[run]")
        sdk_env.check("sdk", "webapp")
        sdk_env.uninstall("appengine-python-standard")
        sdk_env.check("webapp")

    def test_ours_then_sdk_then_the_sdk_alone(self, env, wheel):
        env.install(wheel)
        env.install(SDK)
        env.check("sdk")
        with_both = env.files("google")
        env.uninstall("appxmpp")
        ours = ("google/appengine/api/xmpp/", "google/appengine/ext/webapp/")
        assert env.files("google") == {name: sum for name, sum in with_both.items() if not name.startswith(ours)}
        run(
            env.python, "-c", "from google.appengine.api import wrap_wsgi_app; from google.appengine.ext import testbed"
        )

    def test_the_wheel_overwrites_nothing_of_it(self, wheel, sdk):
        clashes = [name for name in zipfile.ZipFile(wheel).namelist() if (sdk.site / name).is_file()]
        assert clashes == []

    def test_ours_vendored_sdk_installed(self, sdk, lib):
        sdk.check("sdk", path=[lib])

    def test_sdk_vendored_ours_installed(self, env, wheel, sdk):
        env.install(wheel)
        env.check("sdk", path=[sdk.site])

    def test_both_vendored_in_either_order(self, env, lib, sdk):
        env.check("sdk", path=[lib, sdk.site])
        env.check("sdk", path=[sdk.site, lib])

    @pytest.mark.parametrize("base", ["sdk", "ours"])
    def test_an_environment_over_another(self, env, sdk, wheel, base):
        env.install(wheel)
        below, above = (sdk, env) if base == "sdk" else (env, Environment(env.folder.parent / "above", like=sdk))
        (above.site / "below.pth").write_text(f"import site; site.addsitedir({str(below.site)!r})\n")
        above.check("sdk")


class TestBesideOthers:
    def test_protobuf_and_google_cloud(self, env, wheel):
        env.install(*NEIGHBOURS)
        env.install(wheel)
        env.check()
        use = (
            "from google.cloud import storage; from google.protobuf import message; import google.auth, google.api_core"
        )
        run(env.python, "-c", use)
        env.uninstall("appxmpp")
        run(env.python, "-c", use)

    def test_vendored_beside_them(self, env, lib):
        env.install("protobuf", "googleapis-common-protos")
        env.check(path=[lib])


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory):
    """A copy, because an editable install puts its native module into the sources."""
    tree = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("target", ".venv", ".git", "build", "*.so", "__pycache__", ".hypothesis")
    for name in ("Cargo.toml", "Cargo.lock", "core", "python", "capi", "tests"):
        source = ROOT / name
        shutil.copytree(source, tree / name, ignore=skip) if source.is_dir() else shutil.copy(source, tree / name)
    return tree


class TestEditable:
    @pytest.mark.parametrize("beside", [(), ("sdk",)], ids=["alone", "beside the SDK"])
    def test_editable(self, request, source_tree, monkeypatch, beside):
        env = request.getfixturevalue("sdk_env" if beside else "env")
        # The build goes where this tree's own builds go, or it would compile everything anew.
        monkeypatch.setenv("CARGO_TARGET_DIR", str(ROOT / "target"))
        env.install("-e", source_tree / "python")
        env.check(*beside)
        where = run(env.python, "-c", "from google.appengine.api import xmpp; print(xmpp.__file__)")
        assert where.startswith(str(source_tree)), where
        env.uninstall("appxmpp")
        assert not (env.site / "appxmpp_finder.pth").exists()
