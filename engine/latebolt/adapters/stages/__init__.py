"""First stages: fewer numbers than all token vectors, by which a search engine finds the documents that are
worth a MaxSim. Pure; knows no engine."""
