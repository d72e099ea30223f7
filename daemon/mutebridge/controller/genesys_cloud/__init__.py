"""A session controller for Genesys Cloud's Platform API: no page, no SDK, only the user's login.

Where the softphone cannot load a page's module (the desktop application, a WebRTC phone in a locked browser, a desk
phone), Genesys Cloud itself can be asked: it tells of the user's calls through a notification channel, and mutes them
there. `adapter` has the theory of operation.

The client is http.client with websocket-client. Measured with Python 3.11: the official Python SDK (269.0.0) takes
79 MB on disk, 213 MiB of memory and 3.1 s to import, has no notification channel, and refreshes a login only with a
client secret, which a workstation should not hold. httpx with websockets takes 30 MiB, websockets alone 23 MiB, this
20 MiB. More than weight it is care: a PATCH that must not act late needs the moment before it is sent and the socket
that it was sent through, which http.client gives (`exchange`) and the others hide. websocket-client blocks in the
kernel without a thread or an event loop of its own.

Where this project says what Genesys Cloud does, it is from the public models and method documents of the official SDKs
(PureCloudPlatformClientV2 for Python 269.0.0, purecloud-platform-client-v2 for JavaScript 262.0.0) and from
https://developer.genesys.cloud/notificationsalerts/notifications/notifications and .../authorization/platform-auth/.
"""
