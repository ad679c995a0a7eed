"""Everything that comes from outside enters here, bounded in bytes, depth, time and memory before any work is done.

`http_body` reads HTTP responses, `json_reader` JSON, `pictures` images, `safetensors_header` headers of model files,
`addresses` decides what may be connected to, `retry_after` whether and when a server is asked again, `text` makes
foreign text safe to show. A decoder or parser of foreign data anywhere else fails tests/contract/test_house_rules.py.
"""
