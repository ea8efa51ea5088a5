"""Which function answers which request."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tests.hub_server import accounts, downloads, models, uploads
from tests.hub_server.state import State
from tests.hub_server.wire import Call, HubError, Reply

_PARTS = {"ID": r"(?P<id>[^/]+/[^/]+)", "REV": r"(?P<rev>[^/]+)", "PATH": r"(?P<path>.+)"}
_MODEL = "/api/models/ID"
_LFS = r"/ID\.git/info/lfs/objects"
_TABLE = (
    ("GET", "/api/whoami-v2", accounts.whoami),
    ("POST", "/api/repos/create", accounts.create_repo),
    ("DELETE", "/api/repos/delete", accounts.delete_repo),
    ("POST", "/api/validate-yaml", accounts.validate_card),
    ("GET", "/api/models", models.list_models),
    ("GET", f"{_MODEL}", models.info),
    ("GET", f"{_MODEL}/revision/REV", models.info),
    ("GET", f"{_MODEL}/tree/REV", models.tree),
    ("GET", f"{_MODEL}/tree/REV/PATH", models.tree),
    ("POST", f"{_MODEL}/paths-info/REV", models.paths_info),
    ("GET", f"{_MODEL}/commits/REV", models.commits),
    ("GET", f"{_MODEL}/refs", accounts.refs),
    ("POST", f"{_MODEL}/tag/REV", accounts.create_tag),
    ("DELETE", f"{_MODEL}/tag/REV", accounts.delete_tag),
    ("POST", f"{_MODEL}/branch/REV", accounts.create_branch),
    ("DELETE", f"{_MODEL}/branch/REV", accounts.delete_branch),
    ("PUT", f"{_MODEL}/settings", accounts.change_settings),
    ("GET", f"{_MODEL}/auth-check", accounts.check_access),
    ("GET", f"{_MODEL}/auth-check/write", accounts.check_write_access),
    ("POST", f"{_MODEL}/preupload/REV", uploads.preupload),
    ("POST", f"{_MODEL}/commit/REV", uploads.commit),
    ("POST", f"{_LFS}/batch", uploads.lfs_batch),
    ("POST", f"{_LFS}/verify", uploads.lfs_verify),
    ("PUT", "/storage/.+", uploads.put_object),
    ("GET", "/storage/.+", downloads.get_object),
    ("GET", "/ID/resolve/REV/PATH", downloads.resolve),
    ("GET", "/api/models/[^/]+(/revision/.+)?|/[^/]+/resolve/.+", accounts.no_such_repo),
)
_ROUTES = tuple(
    (method, re.compile(re.sub("ID|REV|PATH", lambda found: _PARTS[found[0]], pattern)), function)
    for method, pattern, function in _TABLE
)


def answer(hub: State, call: Call) -> Reply:
    """Find and call the function. Raises HubError, also for what the real Hub has and this one does not."""
    path = call.target.split("?")[0]
    method = "GET" if call.request.method == "HEAD" else call.request.method
    storage = path.startswith("/storage/")
    if storage and call.token is not None:
        raise HubError(400, "Only one auth mechanism allowed")
    with hub.lock:
        user = None if storage else hub.user_of(call.token)
        for wanted, pattern, function in _ROUTES:
            found = pattern.fullmatch(path)
            if wanted == method and found:
                parts = {name: unquote(part) for name, part in found.groupdict().items()}
                return function(hub, call, user, **parts)
    raise NotImplementedError(f"no route for {call.request}")
