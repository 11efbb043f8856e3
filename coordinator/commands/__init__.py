"""The commands of `coord`, a file for each thing people want: start, watch, steer, files."""
