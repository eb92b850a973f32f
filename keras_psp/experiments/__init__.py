"""Is it true what the papers say? Each experiment is one command."""
