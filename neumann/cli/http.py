"""Requests of `neumann-admin` to a node's HTTP port, and its errors turned back into ours.

What could not be sent, or was refused with 503, is Unavailable: nothing was done. What was sent and not
answered is OutcomeUnknown, unless it only reads.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from neumann.errors import BadInput, NeumannError, OutcomeUnknown, Unavailable
from neumann.format.rpc import error_from_wire

DEFAULT_PORT = 9090
_GRACE_S = 5.0


class Reply(NamedTuple):
    """A 2xx answer. `headers` have lower-case names."""

    status: int
    body: Any
    headers: dict[str, str]


class Endpoint:
    """One node's HTTP port. `timeout_s` is the node's time; this side waits a little longer."""

    def __init__(self, url: str, *, token: str = "", ca_file: str | None = None, timeout_s: float) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise BadInput(f"{url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise BadInput(f"{url!r} is not the address of a node", remedy="one looks like http://n1:9090")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, port or DEFAULT_PORT
        self._tls = parts.scheme == "https"
        self._ca_file = ca_file
        self._token = token
        self._timeout_s = timeout_s

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Reply:
        """Read; may be asked again harmlessly."""
        return self.request("GET", path, params=params)

    def post(self, path: str, body: object = None, params: Mapping[str, str] | None = None) -> Reply:
        """Have something done."""
        data = None if body is None else json.dumps(body).encode()
        return self.request("POST", path, params=params, body=data)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; raises the class of errors.py that the node answered with."""
        sent = dict(headers or {})
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        target = path + (f"?{urlencode(params)}" if params else "")
        connection = self._connect()
        try:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(method, path, error) from error
        finally:
            connection.close()
        return self._reply(response, text)

    def _connect(self) -> http.client.HTTPConnection:
        timeout = self._timeout_s + _GRACE_S
        try:
            if self._tls:
                context = ssl.create_default_context(cafile=self._ca_file)
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=timeout, context=context
                )
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
            connection.connect()
        except OSError as error:
            raise Unavailable(
                f"no node answers at {self.url}: {error.strerror or error}",
                remedy="is neumann running there? --admin or NEUMANN_ADMIN names another node",
            ) from error
        return connection

    def _lost(self, method: str, path: str, error: Exception) -> NeumannError:
        what = f"{self.url} did not answer {method} {path}"
        why = f"within {self._timeout_s:g} s" if isinstance(error, socket.timeout) else f"({error!r})"
        if method == "GET":
            return Unavailable(f"{what} {why}", remedy="try again, or ask another node")
        return OutcomeUnknown(f"{what} {why}; it may or may not have been done")

    def _reply(self, response: http.client.HTTPResponse, text: bytes) -> Reply:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if 200 <= response.status < 300 and body is not None:
            return Reply(response.status, body, {k.lower(): v for k, v in response.getheaders()})
        if not isinstance(body, dict) or "code" not in body:
            raise NeumannError(
                f"{self.url} answered {response.status} {response.reason} and no JSON of ours",
                remedy="is that the admin port of a neumann node?",
            )
        detail = {**(body.get("detail") or {}), "remedy": body.get("remedy", "")}
        raise error_from_wire([body["code"], body.get("error", ""), detail])
