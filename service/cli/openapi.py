"""`openapi`: the machine-readable half of what the service promises."""

import json

from service.app import openapi_document
from service.cli.console import DONE, out


def run() -> int:
    """Print the OpenAPI document, the same on every machine."""
    out(json.dumps(openapi_document(), indent=2, sort_keys=True))
    return DONE
