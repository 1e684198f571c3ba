"""What is sent and answered, as OpenAPI tells it; a file for each file of routes."""
