"""`make install` into a folder: what is there, and programs built with pkg-config and CMake against it."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

import pytest
from c_library import BUILD, ROOT, TESTS, environment, library, run, version
from c_peer import Peer

CAPI = ROOT / "capi"
ABI = ".".join(version().split(".")[:2]) if version().startswith("0.") else version().split(".")[0]
OFFLINE = TESTS / "test_offline.c"


@functools.cache
def built() -> Path:
    """The library without what only a debugger reads, which is most of it."""
    folder = BUILD / "built"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("libappxmpp.so", "libappxmpp.a"):
        (folder / name).unlink(missing_ok=True)
        run("objcopy", "--strip-debug", library() / name, folder / name)
    return folder


def install(destdir: Path, prefix: str, *arguments: str, **more: str) -> None:
    env = environment("", DESTDIR=str(destdir), PREFIX=prefix, BUILT=str(built()), **more)
    run(CAPI / "install.sh", *arguments, env=env)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    install(Path("/"), str(folder))
    return folder


def test_everything_is_there_and_goes_away(tmp_path: Path) -> None:
    install(tmp_path, "/usr")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    pages = {f"usr/share/man/man3/{page.name}" for page in (CAPI / "man").glob("*.3")}
    assert len(pages) == 13
    assert files == pages | {
        "usr/include/appxmpp.h",
        "usr/lib/libappxmpp.a",
        "usr/lib/libappxmpp.so",
        f"usr/lib/libappxmpp.so.{ABI}",
        f"usr/lib/libappxmpp.so.{version()}",
        "usr/lib/cmake/appxmpp/appxmppConfig.cmake",
        "usr/lib/cmake/appxmpp/appxmppConfigVersion.cmake",
        "usr/lib/pkgconfig/appxmpp.pc",
    }
    for text in (*tmp_path.rglob("*.pc"), *tmp_path.rglob("*.cmake"), *tmp_path.rglob("*.3")):
        content = text.read_text()
        assert not re.search(r"@[A-Z_]+@", content), text
        assert str(tmp_path) not in content, f"{text} names the DESTDIR"
    dynamic = run("readelf", "-d", tmp_path / "usr/lib/libappxmpp.so").stdout
    assert f"Library soname: [libappxmpp.so.{ABI}]" in dynamic
    assert "NODELETE" in dynamic
    install(tmp_path, "/usr", "--uninstall")
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


@pytest.mark.timeout(900)
def test_make_install(tmp_path: Path) -> None:
    words = ("CAPI_PROFILE=dev", "PREFIX=/opt/chat", f"DESTDIR={tmp_path}", "CAPI_FEATURES=--features test-panic")
    env = {name: value for name, value in environment("").items() if not name.startswith("MAKE")}
    run("make", "install", *words, cwd=ROOT, env=env)
    assert {path.name for path in (tmp_path / "opt/chat").iterdir()} == {"include", "lib", "share"}
    assert "prefix=/opt/chat\n" in (tmp_path / "opt/chat/lib/pkgconfig/appxmpp.pc").read_text()
    exported = run("nm", "-D", "--defined-only", tmp_path / "opt/chat/lib/libappxmpp.so").stdout
    assert " appxmpp_test_panic\n" in exported, "the features are those that were asked for"
    run("make", "uninstall", *words[1:3], cwd=ROOT, env=env)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


def test_make_install_of_the_small_one_is_for_size() -> None:
    small = run("make", "-n", "install", "CAPI_FEATURES=--no-default-features", cwd=ROOT).stdout
    assert "CARGO_PROFILE_RELEASE_OPT_LEVEL=s cargo build --profile release" in small
    assert "-p appxmpp-capi --no-default-features\n" in small
    assert "OPT_LEVEL" not in run("make", "-n", "install", cwd=ROOT).stdout


def flags(installed: Path, *options: str) -> list[str]:
    env = environment("", PKG_CONFIG_PATH=str(installed / "lib" / "pkgconfig"))
    assert run("pkg-config", "--modversion", "appxmpp", env=env).stdout.strip() == version()
    return run("pkg-config", *options, "appxmpp", env=env).stdout.split()


def test_pkg_config(installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "shared"
    run("cc", "-o", program, OFFLINE, *flags(installed, "--cflags", "--libs"))
    del (env := environment("", LD_LIBRARY_PATH=str(installed / "lib")))["APPXMPP_BACKEND"]
    assert run(program, env=env).stdout == "ok\n"
    assert f"libappxmpp.so.{ABI} => {installed}" in run("ldd", program, env=env).stdout


# It is compiled once more, in a folder of its own: with other options, cargo would take turns.
@pytest.mark.timeout(900)
def test_the_static_library_and_what_it_needs(installed: Path, tmp_path: Path) -> None:
    words = flags(installed, "--static", "--libs")
    env = {**environment(""), "CARGO_TARGET_DIR": str(BUILD / "static")}
    asked = ("--lib", "--crate-type", "staticlib", "--", "--print", "native-static-libs")
    said = run("cargo", "rustc", "-q", "-p", "appxmpp-capi", *asked, cwd=ROOT, env=env).stderr
    needed = re.search(r"native-static-libs: (.*)", said)
    assert needed, said
    assert [word for word in words if not word.startswith("-L") and word != "-lappxmpp"] == needed[1].split()
    program = tmp_path / "static"
    run("cc", "-o", program, OFFLINE, f"-I{installed / 'include'}", installed / "lib" / "libappxmpp.a",
        *(word for word in words if word != "-lappxmpp"))  # fmt: skip
    del (env := environment(""))["APPXMPP_BACKEND"]
    assert run(program, env=env).stdout == "ok\n"
    assert "libappxmpp" not in run("ldd", program).stdout


def test_the_archive_has_no_names_but_ours(installed: Path, tmp_path: Path) -> None:
    listed = run("nm", "--defined-only", "--extern-only", installed / "lib" / "libappxmpp.a").stdout.splitlines()
    names = {line.split()[-1] for line in listed if len(line.split()) == 3}
    assert names == set((CAPI / "symbols.txt").read_text().split())


# A function of SQLite's, as if the program had one of its own.
OTHERS = "const char *sqlite3_libversion(void) { return 0; }\n"


@pytest.mark.parametrize("compiler", ["gcc", "g++"])
def test_the_archive_beside_another_sqlite(compiler: str, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "others.c").write_text(OTHERS)
    for source in (OFFLINE, tmp_path / "others.c"):
        run("gcc", "-c", "-o", tmp_path / f"{source.stem}.o", source, f"-I{installed / 'include'}")
    words = [word for word in flags(installed, "--static", "--libs") if word != "-lappxmpp"]
    objects = [tmp_path / "others.o", tmp_path / "test_offline.o"]
    run(compiler, "-o", tmp_path / "program", *objects, installed / "lib" / "libappxmpp.a", *words)
    del (env := environment(""))["APPXMPP_BACKEND"]
    assert run(tmp_path / "program", env=env).stdout == "ok\n"


CMAKE = """cmake_minimum_required(VERSION 3.13)
project(user C)
find_package(appxmpp {version} REQUIRED)
add_executable(shared {source})
target_link_libraries(shared appxmpp::appxmpp)
add_executable(static {source})
target_link_libraries(static appxmpp::appxmpp-static)
"""


@pytest.mark.parametrize("moved", ["", "/usr/lib", "/usr/lib/x86_64-linux-gnu"])
def test_cmake(installed: Path, tmp_path: Path, moved: str) -> None:
    where = [f"-DCMAKE_PREFIX_PATH={installed}"]
    if moved:
        install(tmp_path / "moved", "/usr", LIBDIR=moved)
        where = [f"-Dappxmpp_DIR={tmp_path}/moved{moved}/cmake/appxmpp"]
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(version=version(), source=OFFLINE))
    run("cmake", "-S", tmp_path, "-B", tmp_path / "out", *where)
    run("cmake", "--build", tmp_path / "out")
    del (env := environment(""))["APPXMPP_BACKEND"]
    for name in ("shared", "static"):
        assert run(tmp_path / "out" / name, env=env).stdout == "ok\n"


def test_cmake_refuses_another_interface(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(version="99.0", source=OFFLINE))
    with pytest.raises(AssertionError, match="99"):
        run("cmake", "-S", tmp_path, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={installed}")


def test_the_manual_is_what_the_header_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", CAPI / "man" / "generate.py")
    assert spec
    assert spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    pages = generate.pages()
    stale = [name for name, text in pages.items() if (CAPI / "man" / name).read_text() != text]
    assert not stale, f"run capi/man/generate.py: {stale}"
    header = (CAPI / "include" / "appxmpp.h").read_text()
    named = set(re.findall(r"^(?:#define|typedef enum \{.*?\}) (APPXMPP_\w+)", header, re.M)) - {"APPXMPP_H"}
    named |= set(re.findall(r"\b(appxmpp_\w+)\(", re.sub(r"//.*", "", header)))
    everything = "\n".join(pages.values())
    assert not [name for name in sorted(named) if f".SS {name}\n" not in everything]


def test_a_static_program_chats(installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "ping"
    source = ROOT / "examples" / "c" / "iq_ping.c"
    run("cc", "-o", program, source, f"-I{installed / 'include'}", installed / "lib" / "libappxmpp.a",
        *(word for word in flags(installed, "--static", "--libs") if word != "-lappxmpp"))  # fmt: skip
    with Peer() as peer:
        assert "answered with a result" in run(program, "peer", env=environment(peer.backend())).stdout
