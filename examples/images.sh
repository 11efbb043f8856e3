#!/bin/sh
# A list of images, each in a file of its own; run again, those that are there are skipped.
#
#     python -m shoal.demo --port 8000 --hosts-file demo.hosts &
#     seq -f 'http://gallery.demo.test:8000/pictures/%g.png' 1 12 > images.txt
#     export SHOAL_HOSTS_FILE=demo.hosts SHOAL_ALLOW_PRIVATE=all SHOAL_DELAY=0.1; \
#         examples/images.sh images.txt pictures1 && examples/images.sh images.txt pictures1
set -eu
list=$1 out=$2

# Whatever answers with another type, an error page say, goes to WARC as ever; what breaks off is gone on with.
coord crawl "$list" --no-follow --download 'image/*' --out "$out"

# Which address became which file. The same bytes twice are one file, which both name.
coord export "$out" --to "$out.csv" --force
