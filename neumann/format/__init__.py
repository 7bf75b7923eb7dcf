"""PURE: every byte layout, every file name and every limit of the product.

What is written to a disk or a socket is laid out here and nowhere else; docs/format.md tells a person
the same. Nothing here reads a clock, a file or a socket. Numbers that reach a disk are frozen: a
retired one stays listed so that nobody uses it again.
"""
