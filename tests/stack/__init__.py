"""`make up` and `make down`: the whole of mailfleet for a developer on one machine.

Where a Docker engine with its compose plugin runs, it is `docker compose`. Elsewhere the same docker-compose.yml is
carried out natively: what it runs from our image runs here from this project's environment, with the same commands,
variables and health checks, and only hosts, ports and paths replaced; the images of others become private servers
that the tests' own code finds. Everything is in one directory, data outlive `down`, and all of it is for development:
it listens on loopback, and no mail leaves the machine.
"""
