import asyncio
from pathlib import Path

import blockbuster
import pytest

from engines.models.catalog import Catalog, Roots
from tests.conftest import watching_the_event_loop
from tests.promises import promise


@promise("core:server:loop")
def test_a_look_at_the_disk_on_the_event_loop_is_seen_and_in_a_thread_it_is_not(tmp_path: Path) -> None:
    catalog = Catalog(Roots(configured=(tmp_path,)), {})

    async def main() -> None:
        await asyncio.to_thread(catalog.entries)
        assert not seen
        with pytest.raises(blockbuster.BlockingError):
            catalog.entries()

    with watching_the_event_loop() as seen:
        asyncio.run(main())
    (told,) = seen
    assert told.startswith("os.listdir blocks the event loop") and "engines/models/catalog.py" in told
