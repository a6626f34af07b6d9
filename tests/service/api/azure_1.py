"""Calls methods of azure-ai-translation-text 1.x and prints each result as a line of JSON.

Run by itself, with the folder that the client is installed in on PYTHONPATH: 2.x, which has the
same name, is what the tests beside it import. Arguments: the server's URL, and the calls as JSON
([[method, arguments, named arguments], ...]).
"""

import json
import sys

from azure.ai.translation.text import TextTranslationClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError


def main() -> None:
    """Calls one after the other."""
    _, endpoint, calls = sys.argv
    credential = AzureKeyCredential("any-key")
    with TextTranslationClient(endpoint=endpoint, credential=credential, retry_total=0) as client:
        for method, arguments, named in json.loads(calls):
            try:
                result = getattr(client, method)(*arguments, **named)
                plain = [dict(item) for item in result] if isinstance(result, list) else result
                reply = {"result": plain}
            except HttpResponseError as error:
                reply = {
                    "error": type(error).__name__,
                    "status": error.status_code,
                    "code": error.error and error.error.code,
                    "message": error.message,
                }
            print(json.dumps(reply, default=dict))


if __name__ == "__main__":
    main()
