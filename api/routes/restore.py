"""POST /v1/restore and GET /v1/restore: `lowlight restore` asks a running server to step aside for a moment.

Flow: request -> `api.operating.restoring.Restores` in `app.state` -> how far it is. The file is staged
beforehand.
"""

from fastapi import APIRouter, Request

from api.door.gate import check_json
from api.operating.restoring import Restored, Restores

router = APIRouter(prefix="/v1", tags=["operations"])


@router.post("/restore", status_code=202)
async def post_restore(request: Request) -> Restored:
    """Replace the database by the copy that `lowlight restore` staged; connections wait meanwhile."""
    check_json(request)
    return _restores(request).ask()


@router.get("/restore")
async def get_restore(request: Request) -> Restored:
    """How the newest restore went."""
    return _restores(request).at


def _restores(request: Request) -> Restores:
    restores: Restores = request.app.state.restores
    return restores
