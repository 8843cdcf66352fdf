"""The least that uvicorn can serve: bytes from memory by path, under the settings that the service gives it.

`python -m benchmarks.bare PORT FILE`: FILE is JSON, path -> [[[name, value], …], body].
"""

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn

ready: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """ASGI, with nothing to look up but the path."""
    start, body = ready[scope["path"]]
    await send(start)
    await send(body)


if __name__ == "__main__":
    for path, (headers, text) in json.loads(Path(sys.argv[2]).read_text()).items():
        lines = [(name.encode(), value.encode()) for name, value in headers]
        start_ = {"type": "http.response.start", "status": 200, "headers": lines}
        ready[path] = start_, {"type": "http.response.body", "body": text.encode()}
    quiet: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False}
    uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", ws="none", proxy_headers=False, **quiet)
