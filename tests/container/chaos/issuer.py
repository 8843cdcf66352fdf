"""Runs in a container of the image: the sandbox issuer over TLS, for whoever is in its network. Knobs as JSON."""

import json
import sys

import uvicorn

from service.sandbox import Knobs, Sandbox

sandbox = Sandbox("https://issuer.test", Knobs(**json.loads(sys.argv[1])))
uvicorn.run(sandbox.app, host="0.0.0.0", port=8443, ssl_certfile="/run/secrets/issuer.pem", log_level="warning")
