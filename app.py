"""The dashboard's front door: ``make app``, or ``streamlit run app.py``."""

import streamlit as st

from planner.dashboard import plan_page

st.set_page_config(page_title="moe-planner", page_icon="🧭", layout="wide")
st.navigation([st.Page(plan_page.show, title="Plan", default=True)]).run()
