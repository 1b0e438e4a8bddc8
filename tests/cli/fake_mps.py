#!/usr/bin/env -S python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""Stands in for nvidia-cuda-mps-control where there is no GPU.

With -f it is the daemon: it writes its number beside its socket, has a server as its child, which ends
with it, and answers until it is told to quit. Without, it passes on the commands that it reads. What it
does goes to the file FAKE_MPS_RECORD, a line each. FAKE_MPS makes it fail, hang, or be deaf to "quit".
"""
import os
import socket
import sys
import time

PIPES = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
CONTROL = os.path.join(PIPES, "control")
FAULT = os.environ.get("FAKE_MPS", "")


def record(*words):
    with open(os.environ["FAKE_MPS_RECORD"], "a", encoding="ascii") as file:
        file.write(" ".join(str(word) for word in words) + "\n")


def serve():
    daemon = os.getppid()
    while os.getppid() == daemon:
        time.sleep(0.01)
    os._exit(0)


def start_daemon():
    record("daemon", os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    if FAULT == "hang":
        time.sleep(60)
    if FAULT == "fail":
        print("Cannot bind", flush=True)
        return 1
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(CONTROL)
    listener.listen()
    server = os.fork()
    if server == 0:
        serve()
    record("server", server)
    with open(os.path.join(PIPES, "nvidia-cuda-mps-control.pid"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    while True:
        connection, _ = listener.accept()
        with connection:
            command = connection.recv(1000).decode().strip()
            if command == "quit":
                record("quit")
                if FAULT == "deaf":
                    time.sleep(60)
                os.kill(server, 9)
                os.waitpid(server, 0)
                return 0
            connection.sendall(f"{server}\n".encode())


def ask():
    for line in sys.stdin:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(CONTROL)
            connection.sendall(line.encode())
            sys.stdout.write(connection.recv(1000).decode())
    return 0


if __name__ == "__main__":
    sys.exit(start_daemon() if sys.argv[1:] == ["-f"] else ask())
