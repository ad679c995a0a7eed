import pytest

from worker.demo.files import FileServer


@pytest.fixture
def serve():
    return FileServer
