"""HTTP: what aiohttp does not implement, and the headers of requests and responses."""
