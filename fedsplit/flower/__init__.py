"""Everything that knows Flower and Ray; no other package imports them.

The user's process imports neither: a child process runs Flower's simulation, which starts Ray (`session` is its
handle, `process` its main program, `server_app` and `client_app` are what Flower runs, `wire` is what they exchange).
Where Flower itself was told to run fedsplit, this process is its server, and `nodes` is the way to the clients.
"""
