"""Reads TFLite files of any origin into a Graph; one handler per builtin operator, in files that mirror graph/ops/."""
