"""HTTP as it is spoken here: connections, requests and answers, and what their headers mean."""
