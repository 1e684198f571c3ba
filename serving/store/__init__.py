"""What people said and did, kept: feedback, lists, reviews and the audit log, in a database."""
