"""What AI agents ask of indexes over the Model Context Protocol; `latebolt mcp` runs it."""
