# Runs llama.cpp's server until it is told to stop. Written to the data folder and started by `LocalLlm`.
import signal
import sys

package, weights, name, port, threads, slots, context = sys.argv[1:]
sys.path.insert(0, package)

import xllamacpp  # noqa: E402

settings = xllamacpp.CommonParams()
settings.model.path = weights
settings.model_alias = {name}
settings.hostnames = ["127.0.0.1"]
settings.port = int(port)
# Requests beyond the slots wait for one.
settings.n_parallel = int(slots)
settings.n_ctx = int(slots) * int(context)
settings.cpuparams.n_threads = int(threads)
settings.cpuparams_batch.n_threads = int(threads)
settings.warmup = False
# MiB of old conversations to keep; without a limit of ours it would be gigabytes.
settings.cache_ram_mib = 64
# A model this small only stays with its subject if it takes likely words, whatever temperature a request asks for.
settings.sampling.temp = 0.0
settings.sampling.top_k = 10
settings.sampling.min_p = 0.25
settings.endpoint_slots = False

server = xllamacpp.Server(settings)
print(f"ready on port {port}", flush=True)
signal.pause()
