"""A service by Ray Serve: a picture's file by POST, every face in it as JSON; requests that come together run together.

    serve run --app-dir examples/ray service:app
    curl --data-binary @examples/group.png http://127.0.0.1:8000/

The answer to a picture is {"faces": [{"box": [x, y, width, height], "score": ..., "emotion": {...}, "au": {...}}]},
heads as `awsnet predict --json` has them; to what is none, status 400 and {"error": ...}. AWSNET_MODEL names another
model than the demo.
"""

from __future__ import annotations

import io
import os
from typing import Any

import awsnet
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse

from ray import serve


@serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Service:
    """A replica: an engine and a detector of its own."""

    def __init__(self) -> None:
        """Make them."""
        self.engine = awsnet.Engine(os.environ.get("AWSNET_MODEL", str(awsnet.DEMO)), batch=16, threads=1)
        self.detector = awsnet.Detector(min_face=24, threads=1)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def faces(self, pictures: list[Image.Image]) -> list[list[dict[str, Any]]]:
        """Give the faces of every picture, of all of them in as few runs as their number allows."""
        found = self.engine.predict(pictures, detect=self.detector)
        answers: list[list[dict[str, Any]]] = [[] for _ in pictures]
        for (number, face), heads in zip(found.faces or [], found.to_dicts(), strict=True):
            box = [face.x, face.y, face.width, face.height]
            answers[number].append({"box": box, "score": face.score, **heads})
        return answers

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer a request."""
        try:
            picture = Image.open(io.BytesIO(await request.body())).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
            return JSONResponse({"error": f"body: expected a picture, found {problem}"}, status_code=400)
        return JSONResponse({"faces": await self.faces(picture)})


app = Service.bind()
