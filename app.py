"""The dashboard's front door: ``make app``, or ``streamlit run app.py``."""

import streamlit as st

from planner.dashboard import (
    compare_page,
    deployment_page,
    experts_page,
    plan_page,
    simulate_page,
    trust_page,
)
from planner.dashboard.ready import libraries, make_ready

st.set_page_config(page_title="moe-planner", page_icon="🧭", layout="wide")
make_ready()
libraries()
PAGES = [
    st.Page(plan_page.show, title="Plan", icon=":material/target:", default=True),
    st.Page(
        deployment_page.show, title="Deployment", icon=":material/memory:", url_path="deployment"
    ),
    st.Page(simulate_page.show, title="Simulate", icon=":material/timeline:", url_path="simulate"),
    st.Page(experts_page.show, title="Experts", icon=":material/hub:", url_path="experts"),
    st.Page(compare_page.show, title="Compare", icon=":material/compare:", url_path="compare"),
    st.Page(trust_page.show, title="Trust", icon=":material/verified:", url_path="trust"),
]
st.navigation(PAGES, position="top").run()
