import pytest

from tests.servers import tracking_server


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):
    """Of a real tracking server, with artifacts."""
    with tracking_server(tmp_path_factory.mktemp("server")) as address:
        yield address
