"""The page of a solve, ``posterior.report("page.html")``: what is on it, in what numbers.

`page` puts it together; `page.js` draws it in the browser from the numbers that `views` and `data`
give; `reduction` keeps it small.
"""
