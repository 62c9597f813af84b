"""One module a kind of source, each with the same three functions.

`pieces(source, size)` divides the source into parts of about `size` bytes that can be read alone; `records(source,
piece, largest, wanted)` reads one; `fingerprint(source)` tells without reading records whether they have changed.
"""
