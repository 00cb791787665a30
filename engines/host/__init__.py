"""The machine that the service runs on: files, sockets, clocks and limits of the operating system."""
