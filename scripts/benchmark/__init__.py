"""What `scripts/bench` measures with: webs that it makes up and serves itself, and the crawlers."""
