"""The server of `latebolt serve`: Jina's HTTP contract, named indexes, and what operating it needs.

Needs the extra `serve`. Nothing outside this package and its command imports it.
"""
