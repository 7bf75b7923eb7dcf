"""/admin/members, /admin/leader and /admin/rejoin: who belongs to the cluster, and who leads.

Any node takes any of them, save that `rejoin` is about the node that is asked; what is answered is the
membership after the change.
"""

from __future__ import annotations

from aiohttp import web

from neumann.runtime.node import Node
from neumann.server.http import answer, within
from neumann.server.routes import Flag, Given, Text, route, timeout

_TIMEOUT = timeout()


class MemberRoutes:
    """The handlers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @route("GET", "/admin/members")
    async def get_members(self, request: web.Request, given: Given) -> web.Response:
        """The members as the leader knows them."""
        return answer(await self._node.members())

    @route(
        "POST",
        "/admin/members",
        query=[_TIMEOUT],
        body=[Text("id", needed=True), Text("address", needed=True), Flag("learner"), _TIMEOUT],
    )
    async def post_member(self, request: web.Request, given: Given) -> web.Response:
        """Let a node join: `id`, `address`, and `learner` if it shall stay one until it is promoted."""
        return answer(
            await self._node.member_add(
                given["id"], given["address"], learner=given["learner"], timeout_s=given["timeout_s"]
            )
        )

    @route("DELETE", "/admin/members/{id}", query=[_TIMEOUT], body=[_TIMEOUT])
    async def delete_member(self, request: web.Request, given: Given) -> web.Response:
        """Remove a member, a leader too."""
        return answer(await self._node.member_remove(request.match_info["id"], given["timeout_s"]))

    @route("POST", "/admin/members/{id}/promote", query=[_TIMEOUT], body=[_TIMEOUT])
    async def post_promote(self, request: web.Request, given: Given) -> web.Response:
        """A learner that has caught up becomes a voter."""
        return answer(await self._node.member_promote(request.match_info["id"], given["timeout_s"]))

    @route("POST", "/admin/rejoin", query=[_TIMEOUT], body=[Text("data_dir", filled=True), _TIMEOUT])
    async def post_rejoin(self, request: web.Request, given: Given) -> web.Response:
        """Set the asked node's own state aside; it joins as new. `data_dir` makes sure which node that is."""
        return answer(await within(given["timeout_s"], self._node.rejoin(given["data_dir"])))

    @route("POST", "/admin/leader/transfer", query=[_TIMEOUT], body=[Text("to", needed=True), _TIMEOUT])
    async def post_transfer(self, request: web.Request, given: Given) -> web.Response:
        """The voter `to` leads when this is answered."""
        return answer(await self._node.leader_transfer(given["to"], given["timeout_s"]))
