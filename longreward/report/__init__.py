"""`longreward report`: runs and scored files as one page, report.html, that opens from disk and asks no network.

sources.py finds what there is, gather.py reads it into a table (table.py); steps.py, curves.py,
heldout.py, suspicious.py and alarms.py say what it means; pack.py and html.py write it down. page/ is what runs in the
browser.
"""
