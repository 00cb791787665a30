"""Who is measured: this server, the libraries in process, and the servers that ship with them."""
