"""How `tconv.accelerate` reads and rewrites the programs of other libraries.

`mapping` recognizes a convolution of lax as one of the three operations.
`choices` decides which convolutions to replace, and says why others are left.
`jaxprs` traces, searches and rewrites programs. `explanation` makes the table
of `tconv.explain`.
"""
