"""The routes of endpoints and their deliveries.

checks      what an endpoint may be
endpoints   create, list, show, change, delete
control     pause, resume, secrets, a test
deliveries  an endpoint's, and one with its attempts; one sent again
resends     a range sent again
"""

from typing import Final

from callbacks.api import control, deliveries, endpoints, resends

ROUTES: Final = (endpoints.routes, control.routes, deliveries.routes, resends.routes)
