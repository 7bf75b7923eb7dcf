"""/admin/members, /admin/leader and /admin/rejoin: who belongs to the cluster, and who leads.

Any node takes any of them, save that `rejoin` is about the node that is asked; what is answered is the
membership after the change.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from neumann.errors import BadInput
from neumann.runtime.node import Node
from neumann.server.http import OPERATION_TIMEOUT_S, answer, object_body, parameters, timeout_of, within


class MemberRoutes:
    """The handlers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def table(self) -> list[web.RouteDef]:
        """For app.add_routes."""
        return [
            web.get("/admin/members", self.get_members),
            web.post("/admin/members", self.post_member),
            web.delete("/admin/members/{id}", self.delete_member),
            web.post("/admin/members/{id}/promote", self.post_promote),
            web.post("/admin/rejoin", self.post_rejoin),
            web.post("/admin/leader/transfer", self.post_transfer),
        ]

    async def get_members(self, request: web.Request) -> web.Response:
        """The members as the leader knows them."""
        parameters(request)
        return answer(await self._node.members())

    async def post_member(self, request: web.Request) -> web.Response:
        """Let a node join: `id`, `address`, and `learner` if it shall stay one until it is promoted."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "id", "address", "learner", "timeout_s")
        learner = body.get("learner", False)
        if not isinstance(learner, bool):
            raise BadInput("learner must be true or false")
        node_id, address = _needed(body, "id"), _needed(body, "address")
        timeout_s = timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(await self._node.member_add(node_id, address, learner=learner, timeout_s=timeout_s))

    async def delete_member(self, request: web.Request) -> web.Response:
        """Remove a member, a leader too."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "timeout_s")
        timeout_s = timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(await self._node.member_remove(request.match_info["id"], timeout_s))

    async def post_promote(self, request: web.Request) -> web.Response:
        """A learner that has caught up becomes a voter."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "timeout_s")
        timeout_s = timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(await self._node.member_promote(request.match_info["id"], timeout_s))

    async def post_rejoin(self, request: web.Request) -> web.Response:
        """Set the asked node's own state aside; it joins as new. `data_dir` makes sure which node that is."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "data_dir", "timeout_s")
        data_dir = _needed(body, "data_dir") if "data_dir" in body else ""
        timeout_s = timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(await within(timeout_s, self._node.rejoin(data_dir)))

    async def post_transfer(self, request: web.Request) -> web.Response:
        """The voter `to` leads when this is answered."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "to", "timeout_s")
        timeout_s = timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(await self._node.leader_transfer(_needed(body, "to"), timeout_s))


def _needed(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{key} is needed, and is text")
    return value
