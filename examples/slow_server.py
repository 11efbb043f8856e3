"""A slow server, asked a hundred things at once: all the answers in about the time of one.

    python -m shoal.demo --port 8000 --hosts-file demo.hosts &
    coord crawl 'http://oracle.demo.test:8000/ask?n=[1-100]' --no-follow --per-host 100 --delay 0 \
        --extract examples/slow_server.py:answer --hosts-file demo.hosts --allow-private --out oracle1
    coord export oracle1 items/answer --to answers.csv

`--per-host 100` is for a server of your own, or one whose owner knows: others get one request at a time. Its
robots.txt is read first; then all of them are asked at once.
"""

from dataclasses import dataclass

from shoal import Page


@dataclass
class Answer:
    question: str
    answer: int


def answer(page: Page) -> Answer:
    question = page.css("title::text").re(r"\d+")[0]
    return Answer(question, int(page.css(".answer::text").get("")))
