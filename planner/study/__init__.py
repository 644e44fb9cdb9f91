"""Questions of many scenarios: what if, how sensitive, how sure, what does it cost."""
