"""A category of talks, each talk's page, and there the video, whose address stands in a script: its file downloaded.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    coord crawl http://tv.demo.test:8000/talks --no-follow --scope domain --extract examples/videos.py:talks \
        --hosts-file demo.hosts --allow-private --delay 0.1 --out talks1
    coord export talks1 items/talk --to talks.csv

The videos stand on another host, which --scope domain takes in; --no-follow: nothing but what is asked for below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shoal import Page


@dataclass
class Talk:
    title: str
    video: str


def talks(page: Page) -> Iterator[Any]:
    for link in page.css("a.talk"):
        yield page.follow(link, extract=talk)
    for link in page.css("a[rel=next]"):
        yield page.follow(link)


def talk(page: Page) -> Iterator[Any]:
    title = page.css("h1::text").get("")
    for address in page.re(r'"file": "([^"]+\.mp4)"'):
        video = address.replace("\\/", "/")
        yield page.download(video, name=f"{title}.mp4")
        yield Talk(title, video)
