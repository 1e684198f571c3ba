"""The service: questions, feedback and items over HTTP, and a page that shows them."""
