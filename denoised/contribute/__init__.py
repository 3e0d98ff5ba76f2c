"""The contributor's way in: a new entry's draft, what can be mended safely, a preview, the state of the links."""
