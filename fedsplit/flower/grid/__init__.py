"""Flower's grid over sticky Ray actors: the same apps and messages, exchanged as events instead of by polling.

`grid` is what a server app holds, `link` its end of one worker, `worker` the other end. A worker is an actor, so Ray
places it, watches it and ends it; messages do not go through Ray but over a `line`, a socket that a `door` opened.
`parcel` is what goes over a line at once, `segment` the memory in which large parts lie, `hallway` whether that can be
shared, `array` a Flower Array that is not serialised on the way.
What depends on Flower's release is in `release` alone.
"""

import os

# Here, since this file comes before any other of a worker: Flower reads it once, when it is imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
