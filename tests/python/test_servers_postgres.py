"""The gateway and its PostgreSQL store over the network: by TLS, with the one that was asked for or with none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certs import Authority
from support.gateway import Gateway
from support.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    folder = tmp_path_factory.mktemp("authorities")
    return {name: Authority(folder, name) for name in ("ours", "other")}


@pytest.fixture(scope="module")
def encrypting(authorities: dict[str, Authority]) -> Iterator[Postgres]:
    """Its certificate is for localhost alone."""
    with Postgres(network=True, certificate=authorities["ours"].issue("DNS:localhost")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def plain() -> Iterator[Postgres]:
    with Postgres(network=True) as cluster:
        yield cluster


def gateway(store: str) -> Gateway:
    return Gateway([{"backend": "dev://myapp.localhost"}], env={"APPXMPP_STORE_URL": store}, drain_seconds=1)


def refusal(store: str) -> str:
    """What a gateway says that ends because of its store."""
    with gateway(store) as refused:
        assert refused.process.wait() == 1
        output = refused.process.all_output()
    assert PASSWORD not in output
    return output


def test_the_store_is_reached_by_tls(encrypting: Postgres, authorities: dict[str, Authority]) -> None:
    url = encrypting.network_url(sslmode="verify-full", sslrootcert=authorities["ours"].certificate)
    with gateway(url) as running:
        running.wait_ready()
        seen = (
            "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'appxmpp'"
        )
        assert encrypting.query(seen) == [["t"]]


@pytest.mark.parametrize(
    ("host", "mode", "authority", "says"),
    [
        ("localhost", "verify-full", "other", "issued by nobody who is trusted here"),
        ("localhost", "require", "other", "name its authority with sslrootcert=FILE"),
        ("127.0.0.1", "verify-full", "ours", "is not for 127.0.0.1"),
    ],
)
def test_another_server_is_not_spoken_with(
    encrypting: Postgres, authorities: dict[str, Authority], host: str, mode: str, authority: str, says: str
) -> None:
    ca = authorities[authority].certificate
    assert says in refusal(encrypting.network_url(host, sslmode=mode, sslrootcert=ca))


def test_a_server_without_tls_is_told_nothing(plain: Postgres, authorities: dict[str, Authority]) -> None:
    ca: Path = authorities["ours"].certificate
    assert "does not speak TLS" in refusal(plain.network_url(sslmode="verify-full", sslrootcert=ca))
    assert "does not speak TLS" in refusal(plain.network_url(sslmode="require"))
    with gateway(plain.network_url(sslmode="prefer")) as running:
        running.wait_ready()
