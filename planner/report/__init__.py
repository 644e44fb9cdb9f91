"""Answers for people: terminal, figures, self-contained HTML."""
