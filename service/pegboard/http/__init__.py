"""HTTP as it is spoken here: what aiohttp does not offer, and what the headers of requests and responses mean."""
