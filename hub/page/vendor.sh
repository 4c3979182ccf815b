#!/bin/sh
# Takes the chart library that the page carries from its npm package, so that
# nobody edits it by hand. Without npm or without network the files stay as
# they are; in each case they must have the digests of SHA256SUMS, which are
# the review: a new VERSION means new sums, in the same commit.
set -eu
VERSION=1.6.32
cd "$(dirname "$0")/static/vendor/uplot"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v npm >/dev/null && npm pack "uplot@$VERSION" --silent --ignore-scripts --fetch-retries=0 \
  --fetch-timeout=20000 --pack-destination "$tmp" >/dev/null 2>&1; then
  tar -xzf "$tmp/uplot-$VERSION.tgz" -C "$tmp"
  cp "$tmp/package/dist/uPlot.esm.js" "$tmp/package/dist/uPlot.min.css" "$tmp/package/LICENSE" .
fi
if command -v sha256sum >/dev/null; then sha256sum -c --quiet SHA256SUMS; else shasum -a 256 -c --quiet SHA256SUMS; fi
