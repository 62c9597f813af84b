"""A mixture written as other trainers read it.

`sources` joins the mixture with the places where the domains lie, `formats` holds one function a format, `command` is
`mixscale export`. Formats know of mixtures only: nothing of laws, of corpora or of how the mixture was found.
"""

from mixscale.interop.exporters.formats import FORMATS, export
from mixscale.interop.exporters.sources import Source, sources

__all__ = ["FORMATS", "Source", "export", "sources"]
