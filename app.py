"""The dashboard's front door: ``make app``, or ``streamlit run app.py``."""

import streamlit as st

from planner.dashboard import deployment_page, experts_page, plan_page

st.set_page_config(page_title="moe-planner", page_icon="🧭", layout="wide")
PAGES = [
    st.Page(plan_page.show, title="Plan", icon=":material/target:", default=True),
    st.Page(
        deployment_page.show, title="Deployment", icon=":material/memory:", url_path="deployment"
    ),
    st.Page(experts_page.show, title="Experts", icon=":material/hub:", url_path="experts"),
]
st.navigation(PAGES, position="top").run()
