"""What src/report.py shows of runs and evaluations, and the template, style and script of its page."""
