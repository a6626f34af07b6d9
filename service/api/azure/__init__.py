"""Azure Translator's API, for azure-ai-translation-text 1.x and 2.x and other clients.

Versions 3.0 and 2026-06-06 of the API differ in their bodies; each is a module, beside what they
share. Both are served at the root, whose paths are other APIs' too (a request that says
`api-version` is Azure's), and where Azure has them for custom domains, under
/translator/text/VERSION. Options that would have to change the translation are refused by name.
"""
