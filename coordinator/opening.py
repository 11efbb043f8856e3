"""Opening a crawl: from DIR on disk to a shard that can go on where it was.

Order matters: the store first, for it says how far each output is committed; then every output is cut to that
(PROTOCOL rules 2 and 3); then the core, which takes up open leases. Nothing is listened to before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common import clock
from common.config import CrawlConfig
from common.errors import UsageError
from common.identity import record_ids
from common.log import get_logger
from common.messages import Phase
from common.scope import Scope
from common.version import version
from common.warc import warcinfo_record
from coordinator import files
from coordinator.outputs import Outputs
from coordinator.repair import repair
from coordinator.shard import Shard
from coordinator.sink import FileSink, recover
from coordinator.store import rocks
from coordinator.store.kv import Overlay
from coordinator.store.rocks import RocksStore
from coordinator.store.rows import meta_row, pack, unpack
from coordinator.store.sites import StoredSites

log = get_logger("coordinator.opening")


@dataclass(frozen=True, slots=True)
class Opened:
    """A shard ready to run, with what its shell needs."""

    core: Shard
    store: RocksStore
    sink: FileSink
    sites: StoredSites


def open_shard(directory: Path, config: CrawlConfig, *, index: int = 0) -> Opened:
    """Open or create shard `index` of the crawl in `directory`.

    Raises UsageError if another process has the store, StorageError if it is damaged.
    """
    store = rocks.open(directory / "frontier" / f"{index:02d}")
    overlay = Overlay(store)
    committed = committed_ends(overlay)
    if not committed and (kept := [path for path in directory.glob("warc/*.warc.gz") if path.stat().st_size]):
        store.close()
        raise UsageError(
            f"{directory} holds {len(kept)} WARC files, but its frontier knows none: was DIR/frontier deleted? "
            "Put it back, or choose another --out"
        )
    recovery = recover(directory, committed, index)
    if recovery.cut or recovery.removed or recovery.short:
        log.warning(
            "outputs.recovered",
            cut=len(recovery.cut),
            removed=len(recovery.removed),
            short=len(recovery.short),
        )
    if recovery.short:
        repair(directory, overlay, recovery.short, index, config)
        store.write(overlay.seal())
        overlay.committed()
        committed = committed_ends(overlay)
    files.recover(directory, overlay, index)
    crawl, seed = _identity(overlay)
    identifier = record_ids()
    agent = config.agent

    def warcinfo(file: str, wall: float) -> bytes:
        return warcinfo_record(
            record_id=identifier(),
            date=wall,
            filename=file,
            fields={
                "software": f"Shoal/{version()}",
                "format": "WARC File Format 1.1",
                "conformsTo": "https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/",
                "http-header-user-agent": agent,
                "robots": "obey" if config.obey_robots else "ignore",
                "isPartOf": directory.resolve().name,
            },
        )

    outputs = Outputs(
        committed,
        shard=index,
        name=directory.resolve().name,
        warcinfo=warcinfo,
        rotate_bytes=config.tuning.rotate_bytes,
    )
    sites = StoredSites(overlay)
    packed = overlay.get(meta_row("scope"))
    scope_version = 1 if packed is None else unpack(packed) + 1
    overlay.put(meta_row("scope"), pack(scope_version))
    scope = Scope(config.scope, sites, allow=config.allow, deny=config.deny, version=scope_version)
    core = Shard(
        overlay,
        outputs,
        config,
        scope,
        crawl=crawl,
        seed=seed,
        identifier=identifier,
        now=clock.now(),
        wall=clock.wall(),
        index=index,
        phase=Phase.PAUSED,
    )
    return Opened(core, store, FileSink(directory, shard=index), sites)


def committed_ends(overlay: Overlay) -> Mapping[str, int]:
    """The committed end of every output file."""
    return {key[1:].decode(): unpack(packed) for key, packed in overlay.scan(b"o", b"p", 1 << 30)}


def _identity(overlay: Overlay) -> tuple[bytes, int]:
    """The crawl's id and its seed of fingerprints; made once."""
    packed = overlay.get(meta_row("crawl"))
    if packed is None:
        packed = pack((os.urandom(16), int.from_bytes(os.urandom(8), "big")))
        overlay.put(meta_row("crawl"), packed)
    crawl, seed = unpack(packed)
    return crawl, seed
