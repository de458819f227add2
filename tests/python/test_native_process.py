"""Signals, the interpreter's end, and fork: each in a process of its own."""

import http.client
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from fake_server import FakeServer

HEAD = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from appxmpp import _native, errors
app = _native.App(os.environ["APPXMPP_BACKEND"], app_id="myapp")
def send(body):
    return app.send_message(["a@x.example"], body, None, "chat", False)
def take():
    try:
        app.next_batch(1, 600)
    except errors.UnavailableError:
        pass
def say(text):
    print(text, flush=True)
"""


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture
def python(server):
    running = []

    def start(code, **environ):
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + textwrap.dedent(code)],
            stdin=subprocess.PIPE,  # some wait for its end
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "APPXMPP_BACKEND": server.backend(), **environ},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def end(process):
    """Exit code and output; a process that hangs fails the test."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("call", ["app.next_batch(1, 600)", "app.wait_ready(600)"])
def test_ctrl_c_ends_a_wait_in_the_main_thread(python, server, call):
    process = python(
        f"""
        if "next" in {call!r}:
            app.wait_ready(20)
        else:
            app = _native.App("component://bot.localhost:s@127.0.0.1:1")
        try:
            say("waiting")
            {call}
        except KeyboardInterrupt:
            say("interrupted")
        """
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    code, out, err = end(process)
    assert (code, out) == (0, "interrupted\n"), err


def test_a_wait_in_another_thread_does_not_delay_ctrl_c(python):
    process = python(
        """
        app.wait_ready(20)
        threading.Thread(target=take, daemon=True).start()
        try:
            say("waiting")
            time.sleep(600)
        except KeyboardInterrupt:
            say("interrupted")
        """
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    code, out, err = end(process)
    assert (code, out) == (0, "interrupted\n"), err


def test_a_handler_that_does_not_raise_leaves_the_wait_alone(python):
    process = python(
        """
        app.wait_ready(20)
        signal.signal(signal.SIGUSR1, lambda *_: say("signal"))
        say("waiting")
        (delivery,) = app.next_batch(1, 600)
        say(dict(delivery.fields)["body"])
        """
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "signal\n"


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=take, daemon=True).start()",
        "[threading.Thread(target=take, daemon=True).start() for _ in range(8)]",
        "cycle = [app]; cycle.append(cycle); del app",
        "from appxmpp import corelog; corelog.start()",
    ],
)
def test_the_interpreter_ends_with_an_open_connection(python, server, ending):
    code, out, err = end(python(f"assert app.wait_ready(20)\nsend('hello')\n{ending}\n"))
    assert (code, out, err) == (0, "", "")
    assert server.next_body() == "hello"
    # It said goodbye.
    assert server.ends.get(timeout=20) is True


def test_the_interpreter_ends_where_no_server_is(python):
    process = python("app.wait_ready(0.1)\n", APPXMPP_BACKEND="component://b.localhost:s@127.0.0.1:1")
    assert end(process) == (0, "", "")


def test_a_dropped_app_closes_its_connection(python, server):
    process = python("assert app.wait_ready(20)\ndel app\nsay('dropped')\nsys.stdin.read()\n")
    assert process.stdout.readline() == "dropped\n"
    assert server.ends.get(timeout=20) is True


def test_a_child_forked_before_the_start_opens_its_own(python, server):
    process = python(
        """
        pid = os.fork()
        app = _native.App(os.environ["APPXMPP_BACKEND"])
        if pid == 0:
            assert app.wait_ready(20)
            say(send("from the child"))
            app.close(5)
            os._exit(0)
        os.waitpid(pid, 0)
        """
    )
    code, out, err = end(process)
    assert (code, out) == (0, "[0]\n"), err
    assert server.next_body() == "from the child"


def test_a_child_forked_after_the_start_does_not_use_the_parents(python, server):
    process = python(
        """
        assert app.wait_ready(20)
        pid = os.fork()
        if pid == 0:
            calls = [
                lambda: send("from the child"),
                lambda: app.send_presence("a@x.example", "", "", None, None),
                lambda: app.send_invite("a@x.example", None),
                lambda: app.get_presence(["a@x.example"], None),
                lambda: app.next_batch(1, 600),
                lambda: app.wait_ready(600),
            ]
            for call in calls:
                try:
                    call()
                except errors.UnavailableError as error:
                    assert "fork()" in str(error), error
                else:
                    say("worked")
            app.close(5)
            del app
            say("child done")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        say(send("from the parent"))
        """
    )
    code, out, err = end(process)
    assert (code, out) == (0, "child done\n[0]\n"), err
    assert server.next_body() == "from the parent"


def test_a_child_does_not_hold_the_parents_connection_open(python, server):
    process = python(
        """
        assert app.wait_ready(20)
        if os.fork() == 0:
            say("child")
            sys.stdin.read()
            os._exit(0)
        time.sleep(600)
        """
    )
    assert process.stdout.readline() == "child\n"
    process.kill()
    assert server.ends.get(timeout=20) is False


def test_forking_while_other_threads_send(python, server):
    process = python(
        """
        assert app.wait_ready(20)
        from appxmpp import corelog
        corelog.start()
        stop = threading.Event()
        def work():
            while not stop.is_set():
                send("x")
        threads = [threading.Thread(target=work) for _ in range(3)]
        [thread.start() for thread in threads]
        for _ in range(60):
            pid = os.fork()
            if pid == 0:
                try:
                    send("y")
                except errors.UnavailableError:
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        [thread.join() for thread in threads]
        say("done")
        """
    )
    code, out, err = end(process)
    assert (code, out) == (0, "done\n"), err


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(python, server, method, tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, os, warnings
            warnings.simplefilter("ignore")
            def work(n):
                from google.appengine.api import xmpp
                return xmpp.send_message("a@x.example", str(n))
            if __name__ == "__main__":
                with multiprocessing.get_context({method!r}).Pool(1) as pool:
                    print(pool.map(work, range(3)))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "APPXMPP_BACKEND": server.backend()},
    )
    assert (done.returncode, done.stdout) == (0, "[0, 0, 0]\n"), done.stderr
    assert [server.next_body() for _ in range(3)] == ["0", "1", "2"]


def test_gunicorn_with_preload(server, tmp_path):
    (tmp_path / "site_app.py").write_text(
        textwrap.dedent(
            """
            from google.appengine.api import xmpp
            def app(environ, start_response):
                status = xmpp.send_message("a@x.example", environ["PATH_INFO"])
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [str(status).encode()]
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "-w", "1", "-b", "127.0.0.1:0", "site_app:app"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "APPXMPP_BACKEND": server.backend(), "HOME": str(tmp_path)},
    )
    try:
        seen = iter(process.stderr.readline, "")
        port = next(int(m[1]) for line in seen if (m := re.search(r"Listening at: http://127.0.0.1:(\d+)", line)))
        for path in ("/one", "/two"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", path)
            assert connection.getresponse().read() == b"0"
        assert [server.next_body(), server.next_body()] == ["/one", "/two"]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert server.ends.get(timeout=20) is True


def test_a_debug_build_says_so():
    code = "from appxmpp import _native; print(_native.build_info)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert ("debug" in done.stdout) == ("RuntimeWarning: appxmpp._native was built without" in done.stderr)


def test_importing_opens_and_starts_nothing(server):
    code = """
        import os, threading
        def tasks():
            return len(os.listdir("/proc/self/task"))
        before = tasks()
        from appxmpp import _native
        import google.appengine.api.xmpp
        app = _native.App(os.environ["APPXMPP_BACKEND"])
        assert tasks() == before == 1, tasks()
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "APPXMPP_BACKEND": server.backend()},
    )
    assert done.returncode == 0, done.stderr
    assert server.logins.empty()
