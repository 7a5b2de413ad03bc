"""`longreward report`: runs and scored files as one page, report.html, that opens from disk and asks no network.

reading/ finds what there is and makes a table of its figures. steps.py tells which training step an answer belongs to;
curves.py (trainer_curves.py, answer_curves.py), heldout.py, suspicious.py and alarms.py say what the
figures mean. pack.py and html.py write the page, build.py does it all in order. page/ is what runs in the browser.
"""
