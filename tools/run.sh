#!/bin/sh
# What `make run` does after the build: default models, the project's own documents, the server.
set -eu
cd "$(dirname "$0")/.."
sluice=$1/sluice
listen=${SLUICE_LISTEN:-127.0.0.1:8080}

"$sluice" pull smollm2 minilm >/dev/null
"$sluice" rag add docs | tail -n 1
cat <<END

Sluice is about to answer at http://$listen. Three things to try from another terminal:

  curl -N http://$listen/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "smollm2", "stream": true, "messages": [{"role": "user", "content": "Tell me a fact about rivers."}]}'

  $sluice run smollm2

  $sluice rag ask "How does a document stay whole when the program crashes?"

Ctrl-C stops the server.

END
exec "$sluice" serve --model smollm2 --model minilm --listen "$listen"
