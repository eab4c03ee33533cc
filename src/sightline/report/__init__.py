"""report.json drawn as one HTML file."""
