import socket

from engines.host import unix_sockets
from mcp_server.relay import service


def test_both_ends_of_a_childs_socket_take_a_large_frame_in_few_pieces() -> None:
    ours, theirs = unix_sockets.pair()
    with ours, theirs:
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                assert end.getsockopt(socket.SOL_SOCKET, option) >= unix_sockets.BUFFER_BYTES


def test_the_relay_has_the_same_room_though_it_imports_nothing_of_the_server() -> None:
    assert service.BUFFER_BYTES == unix_sockets.BUFFER_BYTES
