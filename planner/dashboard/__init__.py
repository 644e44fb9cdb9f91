"""Streamlit pages: they ask, call the Python door, and show.  No logic of their own."""
