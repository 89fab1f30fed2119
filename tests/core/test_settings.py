"""Settings: file, environment, overrides; nonsense is refused by name; a second node needs servers that more than one node can reach."""

from pathlib import Path

import pytest

from cloud.core.settings import SettingsError, load


def test_environment_outranks_the_file_and_overrides_outrank_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kang.toml").write_text('portal_port = 1000\ngateway_port = 2000\nnats_port = 3000\n')
    monkeypatch.setenv("KANG_GATEWAY_PORT", "2001")
    settings = load(tmp_path, nats_port=3001)
    assert (settings.portal_port, settings.gateway_port, settings.nats_port) == (1000, 2001, 3001)


def test_what_is_saved_is_read_back_and_holds_no_secret(tmp_path: Path) -> None:
    settings = load(tmp_path, portal_port=4711, timezone="Asia/Urumqi")
    settings.save()
    assert load(tmp_path) == settings
    assert "secret" not in (tmp_path / "kang.toml").read_text().lower().split("secrets live")[0]


@pytest.mark.parametrize(("text", "name"), [("portal_prot = 1\n", "portal_prot"), ('portal_port = "many"\n', "portal_port"), ("portal_port = [\n", "kang.toml"), ("partitions = 0\n", "partitions"),
                                            ("partitions = 10000\n", "partitions")])
def test_nonsense_is_refused_by_name(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "kang.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path)
    assert caught.value.values["name"] == name


@pytest.mark.parametrize("missing", ["historian_url", "ledger_url", "nats_url"])
def test_a_given_ray_cluster_is_refused_with_stores_only_this_machine_may_open(tmp_path: Path, missing: str) -> None:
    given = {"ray_address": "10.0.0.1:6379", "historian_url": "clickhouse://ch:8123", "ledger_url": "postgresql://db/kang", "nats_url": "tls://nats:4222"}
    load(tmp_path, **given)
    given.pop(missing)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **given)
    assert caught.value.values["name"] == missing
