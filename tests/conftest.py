"""Four CPU devices, no silent broadcasting, an empty cache, Keras on JAX.

Values are checked, not speed: LLVM leaves out its optimizations, which take a
fifth of the time of the tests.
"""

import os
import tempfile

# Flags of whoever runs the tests come last, and win.
os.environ['XLA_FLAGS'] = (
    '--xla_force_host_platform_device_count=4'
    ' --xla_backend_optimization_level=0 ' + os.environ.get('XLA_FLAGS', ''))
# What `tconv.tune` measured for whoever runs the tests must not decide here.
CACHE = tempfile.TemporaryDirectory()
os.environ['XDG_CACHE_HOME'] = CACHE.name
# Keras reads these as it is imported; the user's own settings are not for it.
os.environ['KERAS_BACKEND'] = 'jax'
os.environ['KERAS_HOME'] = CACHE.name

import jax  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
