"""A Hugging Face Hub on loopback, for tests: the unmodified `huggingface_hub` client talks to it over HTTP.

    with HubServer() as hub:
        token = hub.add_user("ada")
        hub.create_repo("ada/ner", private=True)
        hub.faults.at(2, "reset", r"GET /ada/ner/resolve/")
        run([...], env=hub.environment(token, cache=tmp_path))
        assert hub.repo("ada/ner").files("v1") == {...}

server.py      `HubServer`: the two ports, what a child process needs in its environment
state.py       users, repos, who may do what
repos.py       a repo: files, commits, branches, tags, PRs
routes.py      which function answers which request; accounts.py, models.py, uploads.py, downloads.py hold them
wire.py        HTTP itself, with the faults; faults.py says which request is struck
cards.py       what the Hub reads from a README.md
test_*.py      tests of the Hub itself, with conftest.py and sample_repo.py
"""

from tests.hub_server.faults import Faults
from tests.hub_server.repos import Commit, File, Repo
from tests.hub_server.server import HubServer
from tests.hub_server.wire import Request

__all__ = ["Commit", "Faults", "File", "HubServer", "Repo", "Request"]
