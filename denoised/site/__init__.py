"""The bilingual site: catalog, notes and records in; Markdown, data and two MkDocs builds out.

    build(root, records=root / "outputs")
    serve(root)

Nothing here imports torch.
"""

from denoised.site.build import Pages, build, generate
from denoised.site.serve import make_server, serve

__all__ = ["Pages", "build", "generate", "make_server", "serve"]
