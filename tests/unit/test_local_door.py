"""The local door as a command sees it: an answer that comes before the question is over is heard."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from provisioning.local_door import SOCKET_NAME, LocalDoor

ANSWER = b'{"code":"update_unsigned","detail":"nobody signed it"}'


def test_a_file_that_is_refused_at_its_beginning_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "update"
    file.write_bytes(bytes(8 << 20))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen(1)

        def refuse() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(4_096)  # and not a byte more, however much is sent
                head = f"HTTP/1.1 422 Refused\r\nContent-Length: {len(ANSWER)}\r\nConnection: close\r\n\r\n"
                caller.sendall(head.encode() + ANSWER)

        door = threading.Thread(target=refuse)
        door.start()
        with pytest.raises(Rejected) as refusal:
            LocalDoor(tmp_path).stage_update(file)
        door.join()
    assert refusal.value.code == "update_unsigned"
