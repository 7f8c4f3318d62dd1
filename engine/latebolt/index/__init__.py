"""The index: documents, their compressed token vectors and texts, kept in one folder."""
