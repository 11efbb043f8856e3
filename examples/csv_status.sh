#!/bin/sh
# The addresses in one column of a CSV file, 100,000 of them, checked for their status only: HEAD, and no body.
#
#     python -m shoal.demo --port 8000 --hosts-file demo.hosts --csv firms.csv &
#     SHOAL_HOSTS_FILE=demo.hosts SHOAL_ALLOW_PRIVATE=all SHOAL_DELAY=0 SHOAL_PER_HOST=20 \
#         examples/csv_status.sh firms.csv website status1
#
# Out in the world leave SHOAL_DELAY alone: of many hosts many are asked at once, each of them once a second at most.
set -eu
table=$1 column=$2 out=$3

# The file is streamed; a row that holds no address is told with its line, counted and skipped.
coord crawl "$table#$column" --no-follow --head --store pages --retries 1 --out "$out"

# A line for each address, redirects' targets included; `seed` is the cell that it came from.
coord export "$out" --to "$out.csv"
coord export "$out" --to "$out-broken.csv" --outcome CLIENT_ERROR,SERVER_ERROR,DNS,REFUSED,TIMEOUT,TLS
