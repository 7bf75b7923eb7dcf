"""Administration over HTTP, against a real node."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from neumann.config import Config, LogConfig, SecurityConfig
from neumann.env import real_env
from neumann.errors import ConfigError, InUse
from neumann.runtime.node import Node
from neumann.runtime.usage import usage_of
from neumann.server import admin
from neumann.server.metrics import METRICS, PREFIX
from neumann.server.reload import Reload
from tests.server.conftest import Web, serving


async def test_a_snapshot_is_there_when_the_answer_comes(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    made = await web.ask("POST", "/admin/snapshot")
    assert made.status == 200
    assert set(made.body) >= {"id", "index", "term", "time", "digest", "durable_on"}
    assert made.body["durable_on"] == ["n1"]
    listed = (await web.ask("GET", "/admin/snapshots")).body["snapshots"]
    assert listed[0]["id"] == made.body["id"]
    assert listed[0]["complete"] is True
    one = (await web.ask("GET", f"/admin/snapshots/{made.body['id']}")).body
    assert one["digest"] == made.body["digest"]
    assert len(one["tables"]) == 1
    assert Path(one["path"], "manifest").exists()


async def test_a_snapshot_that_is_only_begun(web: Web) -> None:
    begun = await web.ask("POST", "/admin/snapshot?wait=false")
    assert begun.status == 202
    async with asyncio.timeout(10):
        while (await web.ask("GET", f"/admin/snapshots/{begun.body['id']}")).status != 200:
            await asyncio.sleep(0.02)


async def test_no_such_snapshot(web: Web) -> None:
    absent = await web.ask("GET", "/admin/snapshots/999-9")
    assert (absent.status, absent.body["code"]) == (404, "not_found")


async def test_writes_while_paused(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    paused = await web.ask("POST", "/admin/writes/pause", {"max_s": 60, "reason": "tar"})
    assert paused.status == 200
    assert (paused.body["applied_by"], paused.body["laggards"]) == (["n1"], [])
    refused = await web.ask("PUT", "/kv/t/k", 2)
    assert (refused.status, refused.body["code"]) == (503, "paused")
    assert refused.headers["retry-after"] == "1"
    assert (await web.ask("GET", "/kv/t/k")).body == 1
    resumed = await web.ask("POST", "/admin/writes/resume")
    assert resumed.status == 200
    assert resumed.body["unchanged_since"] == paused.body["index"]
    assert (await web.ask("PUT", "/kv/t/k", 2)).status == 200
    again = await web.ask("POST", "/admin/writes/resume")
    assert (again.status, again.body["code"]) == (409, "refused")


PAUSES_THAT_ARE_REFUSED = (
    b"[]",
    b"{",
    b'{"max_s": "x"}',
    b'{"max_s": 0}',
    b'{"max_s": true}',
    b'{"reason": 5}',
    b'{"max": 1}',
)


async def test_pauses_that_are_refused(web: Web) -> None:
    for body in PAUSES_THAT_ARE_REFUSED:
        refused = await web.ask("POST", "/admin/writes/pause", body)
        assert (refused.status, refused.body["code"]) == (400, "bad_input"), body
    assert (await web.ask("PUT", "/kv/t/k", 1)).status == 200


async def test_restore_points(web: Web) -> None:
    made = await web.ask("POST", "/admin/restore-points", {"name": "before the upgrade"})
    assert made.status == 200
    assert made.body["index"] > 0
    assert (await web.ask("POST", "/admin/restore-points", {"name": ""})).status == 400
    assert (await web.ask("POST", "/admin/restore-points", {"name": 5})).status == 400
    assert (await web.ask("POST", "/admin/restore-points", {"nam": "x"})).status == 400


async def test_what_a_node_tells_of_itself(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    status = (await web.ask("GET", "/admin/status")).body
    assert (status["verdict"], status["leader"]) == ("SAFE", "n1")
    assert (await web.ask("GET", "/admin/members")).body["members"] == status["members"]
    assert "on" in (await web.ask("GET", "/admin/archive")).body
    info = (await web.ask("GET", "/admin/cluster")).body
    assert info["cluster_id"] == status["cluster_id"]
    stats = (await web.ask("GET", "/admin/stats")).body
    assert next(iter(stats)) == "total_entries"
    assert (stats["total_entries"], info["rows"]) == (1, 1)


async def test_health(web: Web) -> None:
    assert (await web.ask("GET", "/health")).body == {"serving": True}
    assert (await web.ask("GET", "/health/live")).status == 200


async def test_metrics(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    await web.ask("GET", "/kv/t/absent")
    await web.ask("GET", "/kv/t/k?stale=true")
    text = (await web.ask("GET", "/metrics")).body
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines["neumann_is_leader"] == "1.0"
    assert lines["neumann_snapshot_last_index"] == "0.0"
    assert lines['neumann_members{role="voter"}'] == "1.0"
    assert lines['neumann_http_requests_total{code="404",route="/kv/{table}/{key}"}'] == "1.0"
    assert lines['neumann_http_request_seconds_count{route="/kv/{table}/{key}"}'] == "3.0"
    assert float(lines["neumann_put_seconds_count"]) >= 1
    assert [lines[f'neumann_get_seconds_count{{kind="{kind}"}}'] for kind in ("linearizable", "stale")] == [
        "1.0",
        "1.0",
    ]
    assert any(name.startswith("neumann_build_info{") for name in lines)
    assert any(name.startswith("process_") for name in lines)


async def test_each_metric_of_the_table_is_told(web: Web) -> None:
    """Seven were listed, in the reference too, and told by no node."""
    await web.ask("GET", "/admin/stats")
    of_faces = {"build_info", "http_requests_total", "http_request_seconds"}
    assert set(web.node.gauges()) | of_faces == set(METRICS)
    text = (await web.ask("GET", "/metrics")).body
    for name, spec in METRICS.items():
        assert spec.labels or f"\n{PREFIX}{name}" in text, name
    assert any(web.node.host.metrics.loop_stall_seconds.buckets)
    await web.ask("POST", "/admin/snapshot")
    usage = usage_of(web.node.env.disk, web.node.paths)
    assert usage.published > 0 and usage.pinned_bytes > 0 and usage.aside_bytes == 0


async def test_errors_that_are_no_route_s(web: Web) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("POST", "/kv/t/k", 405)):
        refused = await web.ask(method, path)
        assert refused.status == status
        assert set(refused.body) == {"error", "code", "remedy"}
        assert refused.body["code"] == "bad_input"


async def test_a_client_that_goes_away_cancels_nothing(web: Web) -> None:
    url = f"{web.url}/kv/t/k"
    with contextlib.suppress(TimeoutError):
        await web.session.put(url, json=1, timeout=aiohttp.ClientTimeout(total=0.0005))
    async with asyncio.timeout(10):
        for number in range(2, 4):
            await web.ask("PUT", "/kv/t/k", number)
    assert (await web.ask("GET", "/kv/t/k")).body == 3


async def test_a_node_without_a_leader_says_so(node_config: Config) -> None:
    """Nobody told it to bootstrap, so it waits."""
    node = await Node.start(node_config, real_env())
    server = await admin.serve(node, node_config)
    try:
        async with aiohttp.ClientSession() as session:
            web = Web(session, f"http://{node_config.node.admin_listen}", node)
            health = await web.ask("GET", "/health")
            assert (health.status, health.body["code"]) == (503, "unavailable")
            assert "init-cluster" in health.body["remedy"]
            assert (await web.ask("GET", "/health/live")).status == 200
            assert (await web.ask("GET", "/metrics")).status == 200
            for method, path in (
                ("PUT", "/kv/t/k"),
                ("GET", "/kv/t/k"),
                ("GET", "/kv/t"),
                ("GET", "/kv"),
                ("POST", "/admin/snapshot"),
                ("GET", "/admin/stats"),
                ("GET", "/admin/cluster"),
            ):
                refused = await web.ask(method, path, 1 if method == "PUT" else None)
                assert (refused.status, refused.body["code"]) == (503, "unavailable"), path
                assert "retry-after" in refused.headers
            assert (await web.ask("GET", "/admin/status")).body["verdict"] == "DOWN"
            assert (await web.ask("GET", "/admin/members")).status == 503
            assert (await web.ask("GET", "/admin/archive")).status == 503
    finally:
        await server.close()
        await node.stop()


async def test_the_token(node_config: Config, tmp_path: Path) -> None:
    config = replace(node_config, security=SecurityConfig(token_file=str(tmp_path / "token")))
    node = await Node.start(config, real_env(), bootstrap=True)
    server = await admin.serve(node, config)
    try:
        async with aiohttp.ClientSession() as session:
            web = Web(session, f"http://{config.node.admin_listen}", node)
            for wrong in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Bearer s3cre"}):
                for path in ("/kv", "/metrics", "/admin/status", "/nowhere"):
                    refused = await web.ask("GET", path, headers=wrong)
                    assert (refused.status, refused.body["code"]) == (401, "unauthorized")
                    assert refused.headers["www-authenticate"] == "Bearer"
            right = {"Authorization": "Bearer s3cret"}
            assert (await web.ask("GET", "/metrics", headers=right)).status == 200
            assert (await web.ask("GET", "/health/live")).status == 200
    finally:
        await server.close()
        await node.stop()


async def test_token_files_that_are_refused(web: Web, tmp_path: Path) -> None:
    config = replace(web.node.config, security=SecurityConfig(token_file=str(tmp_path / "bad")))
    with pytest.raises(ConfigError, match="token_file"):
        await admin.serve(web.node, config)
    for content in ("", "two words", "é"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(ConfigError, match="token_file"):
            await admin.serve(web.node, config)


async def test_a_port_that_is_taken(web: Web) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = replace(web.node.config, node=replace(web.node.config.node, admin_listen=address))
        with pytest.raises(InUse, match=address):
            await admin.serve(web.node, config)


async def test_members(web: Web) -> None:
    added = await web.ask("POST", "/admin/members", {"id": "n9", "address": "127.0.0.1:9", "learner": True})
    assert (added.status, [m["role"] for m in added.body["members"]]) == (200, ["leader", "learner"])
    for path, body, status in (
        ("/admin/members", {"id": "n9", "address": "127.0.0.1:9"}, 409),
        ("/admin/members", {"id": "n8"}, 400),
        ("/admin/members", {"id": "n8", "address": "h:1", "learner": 1}, 400),
        ("/admin/members/n9/promote", None, 409),
        ("/admin/members/n8/promote", None, 404),
        ("/admin/leader/transfer", {}, 400),
        ("/admin/leader/transfer", {"to": "n9"}, 409),
        ("/admin/leader/transfer", {"to": "n1"}, 200),
    ):
        assert (await web.ask("POST", path, body)).status == status, (path, body)
    assert 'neumann_members{role="learner"} 1.0' in (await web.ask("GET", "/metrics")).body
    removed = await web.ask("DELETE", "/admin/members/n9")
    assert (removed.status, removed.body["removed"]) == (200, ["n9"])
    assert (await web.ask("DELETE", "/admin/members/n1")).status == 409


async def test_a_data_dir_that_names_none_is_no_leave_to_rejoin(web: Web) -> None:
    """A script's variable that is empty would set aside the state of any node."""
    for data_dir in ("", None, 5, "/another"):
        refused = await web.ask("POST", "/admin/rejoin", {"data_dir": data_dir})
        assert (refused.status, refused.body["code"]) == (400, "bad_input"), data_dir


async def test_each_post_takes_its_time_limit(web: Web) -> None:
    """Bug: those of members, of pauses, of the archive's end, and later of scrub, reload and rejoin, refused
    it as unknown."""
    for method, path, body in (
        ("POST", "/admin/members", {"id": "n9", "address": "127.0.0.1:9"}),
        ("POST", "/admin/members/n9/promote", {}),
        ("DELETE", "/admin/members/n9", {}),
        ("POST", "/admin/leader/transfer", {"to": "n1"}),
        ("POST", "/admin/writes/pause", {"max_s": 60}),
        ("POST", "/admin/writes/resume", {}),
        ("POST", "/admin/archive/stop", {"reason": "test"}),
        ("POST", "/admin/archive/flush", {}),
        ("POST", "/admin/snapshot", {}),
        ("POST", "/admin/archive/check", {}),
        ("POST", "/admin/restore-points", {"name": "here"}),
        ("POST", "/admin/verify", {}),
        ("POST", "/admin/reload", {}),
        ("POST", "/admin/rejoin", {}),
    ):
        for asked, given in ((f"{path}?timeout_s=0", body), (path, body | {"timeout_s": 0})):
            refused = await web.ask(method, asked, given)
            assert refused.status == 400 and "timeout_s" in refused.body["error"], path
            assert "unknown" not in refused.body["error"], path
    added = await web.ask("POST", "/admin/members?timeout_s=5", {"id": "n9", "address": "127.0.0.1:9"})
    removed = await web.ask("DELETE", "/admin/members/n9?timeout_s=5")
    assert added.status == removed.status == 200


async def test_a_reload_that_nobody_waits_for_goes_on(node_config: Config) -> None:
    """A configuration on a file system that does not answer: 504 when the time is over, and taken later."""
    released = threading.Event()

    def read() -> Config:
        released.wait(10)
        return replace(node_config, log=LogConfig(level="debug"))

    node = await Node.start(node_config, real_env(), bootstrap=True)
    taken: list[Config] = []
    server = await admin.serve(node, node_config, Reload(node, node_config, read, taken.append))
    try:
        async with aiohttp.ClientSession() as session:
            client = Web(session, f"http://{node_config.node.admin_listen}", node)
            late = await client.ask("POST", "/admin/reload?timeout_s=0.05")
            assert (late.status, late.body["code"]) == (504, "outcome_unknown") and not taken
            released.set()
            async with asyncio.timeout(10):
                while not taken:
                    await asyncio.sleep(0.01)
    finally:
        released.set()
        await server.close()
        await node.stop()
    assert taken[0].log.level == "debug"


async def test_a_scrub_is_begun_and_told_of(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    await web.ask("POST", "/admin/snapshot")
    begun = await web.ask("POST", "/admin/verify")
    assert begun.status == 202 and begun.body["running"]
    async with asyncio.timeout(10):
        while (now := (await web.ask("GET", "/admin/verify")).body)["running"]:
            await asyncio.sleep(0.01)
    assert now["files"] > 0 and now["damaged"] == 0 and now["last_success"]


async def test_restore_points_are_listed_from_the_log(node_config: Config) -> None:
    """Also those that were named before this start."""
    for name in ("first", "second"):
        async with serving(node_config) as web:
            made = await web.ask("POST", "/admin/restore-points?wait=false", {"name": name})
            assert made.status == 200
            listed = (await web.ask("GET", "/admin/restore-points")).body
    assert [point["name"] for point in listed["restore_points"]] == ["first", "second"]
    assert listed["restore_points"][1]["index"] == made.body["index"]
    assert listed["first_index"] == 1
