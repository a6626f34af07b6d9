"""Azure Translator's API, for azure-ai-translation-text 1.x and 2.x and other clients.

Versions 3.0 and 2026-06-06 of the API differ in their bodies, so each has a module; the other
modules are for both. Both versions are served under two addresses: at the root, where other APIs
use the same paths and the query field `api-version` marks Azure's requests, and under
/translator/text/vVERSION as on Azure's custom domains. Options that would have to change the
translation are refused by name.
"""
