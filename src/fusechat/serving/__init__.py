"""`fusechat serve`: a model of this machine behind the OpenAI chat API, as vLLM serves it.

`contract` says what a request may ask, `engine` computes (torch), `app` answers over HTTP
(starlette), `faults` breaks answers on purpose, `child` starts all that as a child process.
"""
