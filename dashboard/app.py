"""Entry of the dashboard: ``streamlit run dashboard/app.py -- --store URL``."""

from __future__ import annotations

import streamlit as st

from dashboard import shell

st.set_page_config(page_title="nas", page_icon=str(shell.VIEWS.with_name("icon.svg")), layout="wide")
shell.style()
pages = [st.Page(shell.view("jobs"), title="Jobs", default=True)]
pages += [st.Page(shell.view(file), title=f"{title} · nas", url_path=file) for file, title, _ in shell.PAGES]
page = st.navigation(pages, position="hidden")
try:
    shell.sidebar()
    page.run()
    shell.damages()
except Exception as error:  # a page is never a traceback; the way around stays
    shell.sentence(error)
